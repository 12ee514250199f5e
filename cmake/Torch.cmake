# The target llama2zh_torch: libtorch's headers and libraries.
# find_package(Torch) is not used: it insists on CUDA when the wheel is a CUDA build (ours is, also on machines without a GPU).
# torch's headers come last (-idirafter): they hold a newer fmt that must not shadow the one spdlog was built with.
set(LLAMA2ZH_TORCH_DIR "" CACHE PATH "Folder that holds torch/ (and nvidia/): the unpacked wheels of scripts/setup.sh")
find_path(TORCH_ROOT include/ATen/core/Tensor.h
  HINTS ${LLAMA2ZH_TORCH_DIR}/torch PATHS ${CMAKE_PREFIX_PATH} PATH_SUFFIXES . torch libtorch NO_DEFAULT_PATH)
if(NOT TORCH_ROOT)
  message(FATAL_ERROR "libtorch was not found: run scripts/setup.sh, or pass -DCMAKE_PREFIX_PATH=/path/to/libtorch")
endif()
message(STATUS "libtorch: ${TORCH_ROOT}")

file(GLOB LLAMA2ZH_NVIDIA_LIBS ${TORCH_ROOT}/../nvidia/*/lib)
add_library(llama2zh_torch INTERFACE)
target_compile_options(llama2zh_torch INTERFACE
  "SHELL:-idirafter ${TORCH_ROOT}/include" "SHELL:-idirafter ${TORCH_ROOT}/include/torch/csrc/api/include")
target_link_directories(llama2zh_torch INTERFACE ${TORCH_ROOT}/lib)
target_link_options(llama2zh_torch INTERFACE "LINKER:-rpath,${TORCH_ROOT}/lib")
foreach(dir IN LISTS LLAMA2ZH_NVIDIA_LIBS)
  target_link_options(llama2zh_torch INTERFACE "LINKER:-rpath,${dir}" "LINKER:-rpath-link,${dir}")
endforeach()
target_link_libraries(llama2zh_torch INTERFACE torch_cpu c10)
# Without OpenMP at::parallel_for, a template, runs on one thread in our code and says nothing. The runtime has to be the one that libtorch has: a second would
# bring threads of its own.
file(GLOB LLAMA2ZH_TORCH_OPENMP ${TORCH_ROOT}/lib/libgomp*.so*)
if(LLAMA2ZH_TORCH_OPENMP)
  list(GET LLAMA2ZH_TORCH_OPENMP 0 LLAMA2ZH_OPENMP_LIBRARY)
else()
  find_package(OpenMP REQUIRED)
  set(LLAMA2ZH_OPENMP_LIBRARY OpenMP::OpenMP_CXX)
endif()
target_compile_options(llama2zh_torch INTERFACE -fopenmp)
target_link_libraries(llama2zh_torch INTERFACE ${LLAMA2ZH_OPENMP_LIBRARY})
if(LLAMA2ZH_CUDA)
  # Nothing of ours calls these by name: the dispatcher finds their kernels once they are loaded. Objects are the same in both builds.
  target_link_libraries(llama2zh_torch INTERFACE "-Wl,--no-as-needed" torch_cuda c10_cuda torch "-Wl,--as-needed")
endif()

# c10d's NCCL backend declares itself through CUDA's and NCCL's headers, which come with the wheels too.
if(LLAMA2ZH_CUDA)
  file(GLOB LLAMA2ZH_NVIDIA_INCLUDES ${TORCH_ROOT}/../nvidia/*/include)
  find_path(LLAMA2ZH_NCCL_INCLUDE nccl.h HINTS ${LLAMA2ZH_NVIDIA_INCLUDES} REQUIRED)
  find_path(LLAMA2ZH_CUDA_INCLUDE cuda_runtime_api.h HINTS ${LLAMA2ZH_NVIDIA_INCLUDES} /usr/local/cuda/include REQUIRED)
  add_library(llama2zh_cuda_headers INTERFACE)
  target_include_directories(llama2zh_cuda_headers SYSTEM INTERFACE ${LLAMA2ZH_NCCL_INCLUDE} ${LLAMA2ZH_CUDA_INCLUDE})
endif()
