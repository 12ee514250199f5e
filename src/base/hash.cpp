// SHA-256 through OpenSSL's EVP; XXH64 through xxhash compiled in here; CRC-32C a byte at a time
// from a table (reflected polynomial 0x82F63B78, initial value and final xor 0xFFFFFFFF).
#include "llama2zh/base/hash.h"

#include <openssl/evp.h>

#include <array>
#include <cstdio>
#include <fstream>
#include <functional>
#include <memory>

#include "llama2zh/base/error.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

namespace llama2zh {
namespace {

using EvpContext = std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)>;

EvpContext new_sha256() {
  EvpContext context(EVP_MD_CTX_new(), &EVP_MD_CTX_free);
  if (!context || EVP_DigestInit_ex(context.get(), EVP_sha256(), nullptr) != 1) {
    fail_io("sha256", "OpenSSL could not start the digest");
  }
  return context;
}

std::string finish_sha256(EVP_MD_CTX* context) {
  unsigned char digest[EVP_MAX_MD_SIZE];
  unsigned int size = 0;
  EVP_DigestFinal_ex(context, digest, &size);
  std::string hex;
  for (unsigned int i = 0; i < size; ++i) {
    char pair[3];
    std::snprintf(pair, sizeof pair, "%02x", digest[i]);
    hex += pair;
  }
  return hex;
}

void for_each_block(const std::filesystem::path& path,
                    const std::function<void(const char*, size_t)>& consume) {
  std::ifstream in(path, std::ios::binary);
  if (!in) fail_io(path.string(), "the file can't be opened", errno);
  std::string block(size_t{1} << 20, '\0');
  while (in) {
    in.read(block.data(), static_cast<std::streamsize>(block.size()));
    if (in.gcount() > 0) consume(block.data(), static_cast<size_t>(in.gcount()));
  }
  if (in.bad()) fail_io(path.string(), "the file can't be read", errno);
}

constexpr std::array<uint32_t, 256> crc32c_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t crc = byte;
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0x82F63B78u : 0u);
    table[byte] = crc;
  }
  return table;
}

}  // namespace

std::string sha256_hex(std::string_view bytes) {
  const EvpContext context = new_sha256();
  EVP_DigestUpdate(context.get(), bytes.data(), bytes.size());
  return finish_sha256(context.get());
}

std::string sha256_file(const std::filesystem::path& path) {
  const EvpContext context = new_sha256();
  for_each_block(
      path, [&](const char* data, size_t size) { EVP_DigestUpdate(context.get(), data, size); });
  return finish_sha256(context.get());
}

uint64_t xxh64(std::string_view bytes, uint64_t seed) {
  return XXH64(bytes.data(), bytes.size(), seed);
}

std::string xxh64_file(const std::filesystem::path& path) {
  const std::unique_ptr<XXH64_state_t, decltype(&XXH64_freeState)> state(XXH64_createState(),
                                                                         &XXH64_freeState);
  XXH64_reset(state.get(), 0);
  for_each_block(path,
                 [&](const char* data, size_t size) { XXH64_update(state.get(), data, size); });
  char hex[17];
  std::snprintf(hex, sizeof hex, "%016llx",
                static_cast<unsigned long long>(XXH64_digest(state.get())));
  return hex;
}

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc32c_table();
  uint32_t crc = ~0u;
  for (const char c : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(c)) & 0xFF];
  return ~crc;
}

}  // namespace llama2zh
