# llama2zh_embed_page(OUTPUT_VARIABLE): at build time, the chat page (assets/page and what its libraries.txt names) as one C++ source that
# pulls the bytes in with the assembler's .incbin, beside gzip-compressed copies. Run as a script (-P) it is the build step itself.
if(NOT CMAKE_SCRIPT_MODE_FILE)
  set(LLAMA2ZH_PAGE_LIBRARIES /usr/share CACHE PATH "Where the browser libraries of assets/page/libraries.txt are, laid out as in Debian's /usr/share")
  find_program(LLAMA2ZH_GZIP gzip REQUIRED)
  set(LLAMA2ZH_EMBED_SCRIPT ${CMAKE_CURRENT_LIST_FILE})

  function(llama2zh_embed_page output_variable)
    set(page ${CMAKE_SOURCE_DIR}/assets/page)
    file(GLOB own CONFIGURE_DEPENDS ${page}/*.html ${page}/*.css ${page}/*.js ${page}/*.svg)
    set(entries)
    foreach(file IN LISTS own)
      get_filename_component(name ${file} NAME)
      list(APPEND entries "${name} ${file}")
    endforeach()
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${page}/libraries.txt)
    file(STRINGS ${page}/libraries.txt lines REGEX "^[^#]")
    foreach(line IN LISTS lines)
      string(REPLACE " " ";" pair "${line}")
      list(GET pair 0 name)
      list(GET pair 1 source)
      if(NOT EXISTS ${LLAMA2ZH_PAGE_LIBRARIES}/${source})
        message(FATAL_ERROR "${LLAMA2ZH_PAGE_LIBRARIES}/${source} is missing: the chat page embeds it (assets/page/libraries.txt). "
          "Run scripts/setup.sh, or set LLAMA2ZH_PAGE_LIBRARIES to a folder laid out as Debian's /usr/share")
      endif()
      list(APPEND entries "${name} ${LLAMA2ZH_PAGE_LIBRARIES}/${source}")
      list(APPEND own ${LLAMA2ZH_PAGE_LIBRARIES}/${source})
    endforeach()
    list(JOIN entries "\n" list)
    set(folder ${CMAKE_CURRENT_BINARY_DIR}/embedded)
    file(CONFIGURE OUTPUT ${folder}/list.txt CONTENT "${list}\n" @ONLY)
    add_custom_command(OUTPUT ${folder}/page_data.cpp
      COMMAND ${CMAKE_COMMAND} -DLIST=${folder}/list.txt -DFOLDER=${folder} -DGZIP=${LLAMA2ZH_GZIP} -P ${LLAMA2ZH_EMBED_SCRIPT}
      DEPENDS ${own} ${folder}/list.txt ${LLAMA2ZH_EMBED_SCRIPT} ${CMAKE_CURRENT_FUNCTION_LIST_DIR}/EmbedBlob.cmake COMMENT "Embedding the chat page" VERBATIM)
    # Its bytes are not text to the compiler, and .incbin keeps it apart from unity files.
    set_source_files_properties(${folder}/page_data.cpp PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
    set(${output_variable} ${folder}/page_data.cpp PARENT_SCOPE)
  endfunction()
  return()
endif()

set(type_html "text/html; charset=utf-8")
set(type_css "text/css; charset=utf-8")
set(type_js "text/javascript; charset=utf-8")
set(type_svg "image/svg+xml")
set(type_woff2 "font/woff2")
set(type_txt "text/plain; charset=utf-8")

file(STRINGS ${LIST} entries)
set(blobs)
set(rows)
set(number 0)
foreach(entry IN LISTS entries)
  string(REGEX MATCH "^([^ ]+) (.+)$" _ "${entry}")
  set(name ${CMAKE_MATCH_1})
  set(file ${CMAKE_MATCH_2})
  string(REGEX MATCH "[^.]+$" ending ${name})
  if(NOT DEFINED type_${ending})
    message(FATAL_ERROR "${file}: no content type for .${ending} (cmake/EmbedFiles.cmake)")
  endif()
  set(path "/assets/${name}")
  if(name STREQUAL "index.html")
    set(path "/")
  endif()
  # The hash stands in the source, so that a compiler cache sees changed bytes too.
  file(SHA256 ${file} hash)
  string(SUBSTRING ${hash} 0 32 hash)
  string(APPEND blobs "LLAMA2ZH_BLOB(f${number}, \"${file}\")\n")
  set(compressed "{}")
  if(NOT ending STREQUAL "woff2") # compressed already
    execute_process(COMMAND ${GZIP} -9 -n -c ${file} OUTPUT_FILE ${FOLDER}/${number}.gz COMMAND_ERROR_IS_FATAL ANY)
    string(APPEND blobs "LLAMA2ZH_BLOB(g${number}, \"${FOLDER}/${number}.gz\")\n")
    set(compressed "bytes(g${number}, g${number}_end)")
  endif()
  string(APPEND rows "    {\"${path}\", \"${type_${ending}}\", bytes(f${number}, f${number}_end), ${compressed}, \"\\\"${hash}\\\"\"},\n")
  math(EXPR number "${number} + 1")
endforeach()

set(blob_prefix page)
include(${CMAKE_CURRENT_LIST_DIR}/EmbedBlob.cmake)
file(WRITE ${FOLDER}/page_data.cpp "// Written by cmake/EmbedFiles.cmake.
#include \"serve/page/page_data.h\"

${blob_macro}
${blobs}
namespace llama2zh {
${blob_bytes}

const std::vector<PageFile>& page_data() {
  static const std::vector<PageFile> files = {
${rows}  };
  return files;
}

}  // namespace llama2zh
")
