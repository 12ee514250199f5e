# For the scripts that embed files (EmbedFiles.cmake, EmbedWords.cmake), which set blob_prefix, apart from others' in the program: blob_macro, C++ that pulls a
# file in as LLAMA2ZH_BLOB(name, path), and blob_bytes, the function bytes(name, name_end).
set(blob_macro "// Read-only memory under names of our own. NOLINTBEGIN(bugprone-macro-parentheses): a declared name cannot stand in parentheses.
#define LLAMA2ZH_BLOB(name, file)                                                          \\
  asm(\".section .rodata\\n.balign 16\\nllama2zh_${blob_prefix}_\" #name \":\\n.incbin \\\"\" file \"\\\"\\n\" \\
      \"llama2zh_${blob_prefix}_\" #name \"_end:\\n.byte 0\\n.previous\\n\");                              \\
  extern \"C\" const char name[] asm(\"llama2zh_${blob_prefix}_\" #name);                               \\
  extern \"C\" const char name##_end[] asm(\"llama2zh_${blob_prefix}_\" #name \"_end\");

// NOLINTEND(bugprone-macro-parentheses)")
set(blob_bytes "namespace {
std::string_view bytes(const char* begin, const char* end) { return {begin, static_cast<size_t>(end - begin)}; }
}  // namespace")
