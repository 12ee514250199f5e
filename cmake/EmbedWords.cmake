# llama2zh_embed_words(OUTPUT_VARIABLE): at build time, the dictionary and the tables of the jieba word segmenter (Debian's python3-jieba;
# MIT licence, whose text assets/page/libraries.txt embeds) as one C++ source that pulls them in, zstd-compressed, with the assembler's
# .incbin. Run as a script (-P) it is the build step itself.
set(names dict.txt finalseg/prob_start.py finalseg/prob_trans.py finalseg/prob_emit.py)

if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(LLAMA2ZH_JIEBA /usr/lib/python3/dist-packages/jieba CACHE PATH "Folder of the jieba segmenter 0.42.1, whose dictionary is embedded")
  find_program(LLAMA2ZH_ZSTD zstd REQUIRED)
  set(LLAMA2ZH_EMBED_WORDS_SCRIPT ${CMAKE_CURRENT_LIST_FILE})

  function(llama2zh_embed_words output_variable)
    set(files)
    foreach(name dict.txt finalseg/prob_start.py finalseg/prob_trans.py finalseg/prob_emit.py)
      if(NOT EXISTS ${LLAMA2ZH_JIEBA}/${name})
        message(FATAL_ERROR "${LLAMA2ZH_JIEBA}/${name} is missing: the word segmenter embeds it. Run scripts/setup.sh, or set LLAMA2ZH_JIEBA "
          "to the folder of jieba 0.42.1")
      endif()
      list(APPEND files ${LLAMA2ZH_JIEBA}/${name})
    endforeach()
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/embedded)
    add_custom_command(OUTPUT ${folder}/word_data.cpp
      COMMAND ${CMAKE_COMMAND} -DJIEBA=${LLAMA2ZH_JIEBA} -DFOLDER=${folder} -DZSTD=${LLAMA2ZH_ZSTD} -P ${LLAMA2ZH_EMBED_WORDS_SCRIPT}
      DEPENDS ${files} ${LLAMA2ZH_EMBED_WORDS_SCRIPT} ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/EmbedBlob.cmake COMMENT "Embedding the word dictionary" VERBATIM)
    # .incbin keeps it apart from unity files.
    set_source_files_properties(${folder}/word_data.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    set(${output_variable} ${folder}/word_data.cpp PARENT_SCOPE)
  endfunction()
  return()
endif()

file(MAKE_DIRECTORY ${FOLDER})
set(blobs)
set(members)
foreach(name IN LISTS names)
  get_filename_component(word ${name} NAME_WE)
  execute_process(COMMAND ${ZSTD} -q -f -19 -o ${FOLDER}/${word}.zst ${JIEBA}/${name} COMMAND_ERROR_IS_FATAL ANY)
  # The hash stands in the source, so that a compiler cache sees changed bytes too.
  file(SHA256 ${JIEBA}/${name} hash)
  string(APPEND blobs "LLAMA2ZH_BLOB(${word}, \"${FOLDER}/${word}.zst\")  // ${hash}\n")
  list(APPEND members "bytes(${word}, ${word}_end)")
endforeach()
list(JOIN members ", " members)

set(blob_prefix words)
include(${CMAKE_CURRENT_LIST_DIR}/EmbedBlob.cmake)
file(WRITE ${FOLDER}/word_data.cpp "// Written by cmake/EmbedWords.cmake.
#include \"eval/text/word_data.h\"

${blob_macro}
${blobs}
namespace llama2zh {
${blob_bytes}

WordData compressed_word_data() { return {${members}}; }

}  // namespace llama2zh
")
