#pragma once

#include <string>
#include <vector>

namespace llama2zh {

// The verbs' entry points; the table that lists them is in command.cpp.
int run_tokenize(const std::vector<std::string>& args);
int run_train_tokenizer(const std::vector<std::string>& args);
int run_extend_vocab(const std::vector<std::string>& args);
int run_init_model(const std::vector<std::string>& args);
int run_prepare(const std::vector<std::string>& args);
int run_pretrain(const std::vector<std::string>& args);
int run_sft(const std::vector<std::string>& args);
int run_dpo(const std::vector<std::string>& args);
int run_launch(const std::vector<std::string>& args);
int run_quantize(const std::vector<std::string>& args);
int run_merge(const std::vector<std::string>& args);
int run_convert(const std::vector<std::string>& args);
int run_generate(const std::vector<std::string>& args);
int run_serve(const std::vector<std::string>& args);
int run_embed(const std::vector<std::string>& args);
int run_chat(const std::vector<std::string>& args);
int run_evaluate_compare(const std::vector<std::string>& args);
int run_evaluate_perplexity(const std::vector<std::string>& args);
int run_evaluate_ceval(const std::vector<std::string>& args);
int run_evaluate_cmmlu(const std::vector<std::string>& args);
int run_evaluate_text(const std::vector<std::string>& args);
int run_evaluate_generate(const std::vector<std::string>& args);
int run_inspect(const std::vector<std::string>& args);
int run_config(const std::vector<std::string>& args);
int run_bench_kernels(const std::vector<std::string>& args);
int run_bench_train(const std::vector<std::string>& args);
int run_bench_sft(const std::vector<std::string>& args);
int run_bench_generate(const std::vector<std::string>& args);
int run_bench_serve(const std::vector<std::string>& args);
int run_bench_throughput(const std::vector<std::string>& args);
int run_plan(const std::vector<std::string>& args);
int run_plot(const std::vector<std::string>& args);
int run_data_show(const std::vector<std::string>& args);
int run_data_stats(const std::vector<std::string>& args);
int run_data_check(const std::vector<std::string>& args);
int run_vocab_report(const std::vector<std::string>& args);

}  // namespace llama2zh
