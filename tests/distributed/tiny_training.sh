# Sourced by the tests of launchers with a folder: makes tiny.json there, four steps of a model of random weights. Needs $llama2zh and fail().
folder=${1:?a folder}
cp "$(dirname "${BASH_SOURCE[0]}")/../../LICENSE" "$folder/text.txt"
"$llama2zh" train-tokenizer --input "$folder/text.txt" --vocab-size 400 --output "$folder/t.model" > /dev/null 2>&1
"$llama2zh" init-model --tokenizer "$folder/t.model" --hidden-size 32 --intermediate-size 64 --num-hidden-layers 2 --num-attention-heads 4 --output "$folder/base" > /dev/null 2>&1
cat > "$folder/tiny.json" <<END
{"model": {"path": "$folder/base", "device": "cpu"}, "lora": {"rank": 2}, "data": {"train_files": ["$folder/text.txt"], "block_size": 64},
 "train": {"micro_batch_size": 1, "max_steps": 4, "learning_rate": 1e-2}, "distributed": {"timeout_seconds": 60}}
END

# The losses in the logs of two runs agree in five digits.
expect_same_losses() {
  paste -d ' ' <(losses "$1") <(losses "$2") | awk 'NF != 2 || ($1 - $2) ^ 2 > (1e-5 * $1) ^ 2 { bad = 1 } END { exit bad || NR != 4 }' || fail "other losses: $(losses "$1" "$2")"
}
losses() { sed -n 's/.*"loss":\([0-9.]*\).*/\1/p' "${@/%//trainer_log.jsonl}"; }
