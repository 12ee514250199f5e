# Everything from outside, in one place. System packages come from Debian; libtorch is the unpacked Python wheel that
# scripts/setup.sh puts into a cache folder (LLAMA2ZH_TORCH_DIR), or a user's own libtorch found through CMAKE_PREFIX_PATH.
find_package(Threads REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(spdlog REQUIRED)
find_package(cxxopts REQUIRED)
find_package(OpenSSL REQUIRED COMPONENTS Crypto)
find_package(ZLIB REQUIRED)
find_package(PkgConfig REQUIRED)
pkg_check_modules(zstd REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(edit REQUIRED IMPORTED_TARGET libedit)
pkg_check_modules(utf8proc REQUIRED IMPORTED_TARGET libutf8proc)
if(LLAMA2ZH_TESTS)
  find_package(GTest REQUIRED)
endif()

find_path(SENTENCEPIECE_INCLUDE sentencepiece_processor.h REQUIRED)
find_library(SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)
find_library(SENTENCEPIECE_TRAIN_LIBRARY sentencepiece_train REQUIRED)
add_library(llama2zh_sentencepiece INTERFACE)
target_include_directories(llama2zh_sentencepiece SYSTEM INTERFACE ${SENTENCEPIECE_INCLUDE})
target_link_libraries(llama2zh_sentencepiece INTERFACE ${SENTENCEPIECE_TRAIN_LIBRARY} ${SENTENCEPIECE_LIBRARY})

include(Torch)
