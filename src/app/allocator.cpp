// The program's allocator is jemalloc, linked into the executable so that libtorch's tensors come from
// it too. A training step allocates and frees the same gigabytes every time; glibc gives large blocks
// back to the kernel, which clears every page anew when they return (a quarter of a step's time with
// 49,953-row matrices). Here freed pages are kept (decay -1) and large blocks use huge pages.
// MALLOC_CONF in the environment still overrules.
extern "C" {
extern const char* malloc_conf;
const char* malloc_conf =
    "dirty_decay_ms:-1,muzzy_decay_ms:-1,oversize_threshold:0,thp:always,metadata_thp:auto";
}
