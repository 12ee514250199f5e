// Reading PEFT adapter folders: every spelling of names, broken files.
#include "llama2zh/formats/peft.h"

#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/zeros.h>

#include "formats/peft_test_util.h"
#include "llama2zh/base/text.h"
#include "llama2zh/formats/torch_zip.h"

namespace llama2zh::foreign_test {
namespace {

TEST(PeftRead, EverySpellingOfNames) {
  const Values v;
  for (const char* prefix : {"base_model.model.", ""}) {
    for (const char* tail : {".weight", ".default.weight", ".sft.weight"}) {
      for (const char* saved : {".weight", ".default.weight", ".modules_to_save.weight",
                                ".modules_to_save.default.weight"}) {
        SCOPED_TRACE(std::string(prefix) + tail + saved);
        PeftFolder folder;
        folder.set_tensors(spelled(v, prefix, tail, saved));
        expect_values(folder.read(), v);
      }
    }
  }
}

TEST(PeftRead, BinAndSafetensorsAreTheSame) {
  const Values v;
  PeftFolder folder;
  write_torch_zip(folder / "adapter_model.bin", usual(v));
  expect_values(folder.read(), v);
  // safetensors is preferred when both are there.
  const Values other;
  folder.set_tensors(usual(other));
  expect_values(folder.read(), other);
  EXPECT_TRUE(is_peft_folder(folder.path()));
  EXPECT_FALSE(is_peft_folder(folder / "absent"));
}

TEST(PeftRead, FrozenCopiesAreIgnored) {
  const Values v;
  Named tensors = spelled(v, kPrefix, ".weight", ".modules_to_save.weight");
  tensors.emplace_back("base_model.model.model.embed_tokens.original_module.weight",
                       at::randn({12, 8}));
  PeftFolder folder;
  folder.set_tensors(tensors);
  expect_values(folder.read(), v);
}

TEST(PeftRead, EmbeddingsThatPeftSavedUnasked) {
  const Values v;
  ordered_json config = short_config();
  config["modules_to_save"] = nullptr;
  PeftFolder folder(config);
  folder.set_tensors(usual(v));
  expect_values(folder.read(), v);
}

TEST(PeftRead, BrokenFiles) {
  const Values v;
  PeftFolder folder;
  const auto refuse = [&](const Named& tensors, const std::string& problem) {
    folder.set_tensors(tensors);
    expect_error(ErrorKind::kFormat, problem, [&] { folder.read(); });
  };
  const auto with = [&](const std::string& name, const at::Tensor& tensor) {
    Named tensors = usual(v);
    tensors.emplace_back(name, tensor);
    return tensors;
  };
  const auto replaced = [&](size_t index, const at::Tensor& tensor) {
    Named tensors = usual(v);
    tensors[index].second = tensor;
    return tensors;
  };
  const auto without = [&](size_t index) {
    Named tensors = usual(v);
    tensors.erase(tensors.begin() + static_cast<long>(index));
    return tensors;
  };
  expect_error(ErrorKind::kFormat, "neither adapter_model", [&] { folder.read(); });
  refuse({}, "no adapter tensors at all");
  refuse(without(1), "has no partner: lora_B");
  refuse(without(2), "has no partner: lora_A");
  refuse(without(4), "no weight for \"embed_tokens\"");
  refuse(replaced(0, at::zeros({0})), "is empty");
  refuse(replaced(4, at::zeros({0, 8})), "is empty");
  refuse(replaced(0, at::randn({5, 8})), "[5, 8]");
  refuse(replaced(0, at::randn({4})), "expected [r, in]");
  refuse(replaced(4, at::randn({12})), "[vocab, hidden]");
  refuse(replaced(1, at::ones({6, 4}, at::kLong)), "floating-point");
  const std::string q = std::string(kPrefix) + kQ;
  refuse(with(q + ".lora_A.default.weight", v.qa), "means the same as");
  refuse(with(q + ".lora_A.bias", v.qa), "neither a LoRA matrix");
  refuse(with(q + ".lora_magnitude_vector.default.weight", v.qa), "DoRA");
  refuse(with("base_model.model.model.embed_tokens.lora_embedding_A", v.qa),
         "LoRA on an embedding");
  refuse(with("base_model.model.model.embed_tokens.lora_embedding_B.default", v.qa),
         "LoRA on an embedding");
  refuse(with(q + ".base_layer.weight", v.qa), "modules_to_save");
  refuse(with("base_model.model.model.norm.weight", at::ones({8})), "modules_to_save");
  refuse(with("base_model.model.score.bias", at::ones({8})), "neither a LoRA matrix");
  refuse(with(q + ".lora_A" + std::string(1000, '.') + "weight", v.qa), "characters");
}

TEST(PeftRead, DoraMagnitudes) {
  const Values v;
  ordered_json config = short_config();
  config["use_dora"] = true;
  PeftFolder folder(config);
  const auto with_magnitudes = [&](const std::string& tail, const at::Tensor& of_q) {
    Named tensors = usual(v);
    tensors.emplace_back(std::string(kPrefix) + kQ + ".lora_magnitude_vector" + tail, of_q);
    tensors.emplace_back(std::string(kPrefix) + kUp + ".lora_magnitude_vector" + tail,
                         at::ones({10}));
    return tensors;
  };
  for (const char* tail : {".weight", "", ".default.weight"}) {
    folder.set_tensors(with_magnitudes(tail, at::full({6}, 2.5)));
    const PeftAdapter adapter = folder.read();
    EXPECT_TRUE(adapter.config.use_dora);
    EXPECT_TRUE(at::equal(adapter.lora.at(kQ).magnitude, at::full({6}, 2.5))) << tail;
  }
  folder.set_tensors(with_magnitudes(".weight", at::ones({7})));
  expect_error(ErrorKind::kFormat, "expected [6]", [&] { folder.read(); });
  folder.set_tensors(usual(v));
  expect_error(ErrorKind::kFormat, "no lora_magnitude_vector", [&] { folder.read(); });
}

TEST(PeftRead, EmptyBinOfABrokenSaver) {
  PeftFolder folder;
  write_torch_zip(folder / "adapter_model.bin", {});
  expect_error(ErrorKind::kFormat, "no adapter tensors at all", [&] { folder.read(); });
  write_text(folder / "adapter_model.bin", std::string(443, '\0'));
  expect_error(ErrorKind::kFormat, "adapter_model.bin", [&] { folder.read(); });
}

}  // namespace
}  // namespace llama2zh::foreign_test
