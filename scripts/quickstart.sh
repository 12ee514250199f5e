#!/usr/bin/env bash
# From an empty folder to a small Chinese LLaMA that chats, on a bare Debian bookworm: installs what is missing, builds build/llama2zh, makes a
# small English base from Debian's documentation, then runs the real chain on Chinese text: tokenizer, extended vocabulary, continued pretraining,
# fine-tuning, merge, an answer. 6 minutes on 2 cores with AVX-512 bf16, about 12 without. Run again it reuses what is there.
# usage: scripts/quickstart.sh [--cuda] [--output DIR] [--skip-build]
source "$(dirname "$0")/common.sh"

out=$root/quickstart cuda= build=1
while [ $# -gt 0 ]; do
  case $1 in
    --cuda) cuda=--cuda ;;
    --output) out=$(realpath -m "$2"); shift ;;
    --skip-build) build= ;;
    -h | --help) sed -n '2,5s/^# \{0,1\}//p' "$0"; exit 0 ;;
    *) die "unknown option $1 (see --help)" ;;
  esac
  shift
done

started=$SECONDS
if [ -n "$build" ]; then
  "$root/scripts/setup.sh" $cuda
  "$root/scripts/build.sh" $cuda
fi
llama2zh=$root/build/llama2zh
mkdir -p "$out"
cd "$out"
question=你是谁？

# stage TITLE RESULT COMMAND...: runs the command unless its result is there. Every verb writes its result whole or not at all.
training=0
stage() {
  local title=$1 result=$2 begun=$SECONDS
  shift 2
  if [ -e "$result" ]; then
    say "$title: $result is there"
    return
  fi
  say "$title"
  "$@" >&2
  case $1$2 in *pretrain | *sft) training=$((training + SECONDS - begun)) ;; esac
}

stage "English and Chinese text from Debian's documentation" text/.complete "$root/scripts/debian_corpus.sh" text
stage "English tokenizer (4,000 pieces)" en.model "$llama2zh" train-tokenizer --input text/en_train.txt --vocab-size 4000 --model-type bpe --output en.model
stage "A small LLaMA with random weights" random "$llama2zh" init-model --tokenizer en.model --hidden-size 192 --intermediate-size 512 \
  --num-hidden-layers 4 --num-attention-heads 3 --max-position-embeddings 512 --output random
stage "English base: pretraining in full" base "$llama2zh" pretrain --config "$root/configs/quickstart_base.json" --model.path random \
  --data.train_files text/en_train.txt --data.validation_files text/en_heldout.txt --output_dir base

# The extension learns from the Chinese in the text alone: Latin pieces would be merged before the base's own and break its English.
[ -e text/zh_only.txt ] || { LC_ALL=C.UTF-8 sed 's/[ -~]\+/\n/g' text/zh_train.txt | sed '/^$/d' > text/zh_only.txt.partial && mv text/zh_only.txt.partial text/zh_only.txt; }
stage "Chinese tokenizer (6,000 pieces)" zh.model "$llama2zh" train-tokenizer --input text/zh_only.txt --vocab-size 6000 --model-type bpe --output zh.model
stage "Extended vocabulary and resized model" resized "$llama2zh" extend-vocab --tokenizer base --extension zh.model --model base --init subpiece \
  --report-text text/zh_heldout.txt text/en_heldout.txt --output resized
# English replay against forgetting, about as much as there is Chinese.
[ -e text/en_replay.txt ] || { head -c 5000000 text/en_train.txt | sed '$d' > text/en_replay.txt.partial && mv text/en_replay.txt.partial text/en_replay.txt; }
stage "Continued pretraining: LoRA + embeddings + head" pretrained "$llama2zh" pretrain --config "$root/configs/quickstart_pretrain.json" \
  --model.path resized --data.train_files text/zh_train.txt text/en_replay.txt --data.validation_files text/zh_heldout.txt text/en_heldout.txt \
  --output_dir pretrained
# The few instructions many times, among as much plain text: fine-tuning on the instructions alone forgets the language.
plain_rows() { # LANGUAGE CHARACTERS: paragraphs joined to rows of about so many characters
  perl -CSD -ne '
    BEGIN { $size = shift @ARGV } chomp; tr/\\"\t//d; $text .= ($text eq "" ? "" : "\\n") . $_;
    if (length $text > $size) { print qq({"text": "$text"}\n); $text = "" }' "$2" "text/$1_train.txt" | shuf -n 500 --random-source=<(yes)
}
instructions_and_text() {
  plain_rows zh 220
  plain_rows en 700
  for _ in $(seq 30); do cat "$root/assets/sft_zh.jsonl"; done
}
[ -e sft.jsonl ] || { instructions_and_text > sft.jsonl.partial && mv sft.jsonl.partial sft.jsonl; }
stage "Fine-tuning on Chinese instructions" tuned "$llama2zh" sft --config "$root/configs/quickstart_sft.json" --model.path resized \
  --model.peft_path pretrained --data.train_files sft.jsonl --output_dir tuned
stage "Merge into a plain model" chat "$llama2zh" merge --base resized --adapter tuned --output chat

# --- what came of it ---------------------------------------------------------------------------------------------------------------------------
# field KEY: the first value of that key in a JSON object on standard input.
field() { grep -o "\"$1\":[^,}]*" | head -n 1 | cut -d: -f2 | tr -d '"'; }
measure() {
  local model=$1 file=$2
  [ -s "report/$model.$file.json" ] || {
    mkdir -p report
    "$llama2zh" evaluate perplexity --model "$model" --file "text/${file}_heldout.txt" --json > "report/$model.$file.partial"
    mv "report/$model.$file.partial" "report/$model.$file.json"
  }
  cat "report/$model.$file.json"
}
chars_per_token() { measure "$1" "$2" | awk '{match($0, /"tokens":[0-9]+/); t = substr($0, RSTART + 9, RLENGTH - 9); match($0, /"characters":[0-9]+/); printf "%.2f\n", substr($0, RSTART + 13, RLENGTH - 13) / t}'; }
bits() { printf '%.3f\n' "$(measure "$1" "$2" | field bits_per_character)"; }
inspected() { "$llama2zh" inspect "$1" --json --no-checksums | field "$2" | sed -E ':a; s/^([0-9]+)([0-9]{3})/\1,\2/; ta'; }
# By how much the loss of the set that the forgetting guard watches rose in the continued pretraining.
forgotten() {
  grep '"eval_set":"en_heldout"' pretrained/trainer_log.jsonl | field_of_all eval_loss | awk 'NR == 1 {first = $1} {last = $1} END {printf "%+.1f %%\n", 100 * (last / first - 1)}'
}
field_of_all() { sed -n "s/.*\"$1\":\([^,}]*\).*/\1/p"; }
row() { printf '%-34s %12s %12s %12s\n' "$@"; }

say "Measuring on held-out text"
for model in base resized chat; do for language in zh en; do measure $model $language > /dev/null; done; done
answer=$("$llama2zh" generate --model chat --prompt "$question" --temperature 0 --max-new-tokens 96 2> report/answer.log)

echo
row "" base resized chat
row vocabulary $(for model in base resized chat; do inspected $model vocab_size; done)
row parameters $(for model in base resized chat; do inspected $model parameters; done)
row "characters per token, zh" $(for model in base resized chat; do chars_per_token $model zh; done)
row "characters per token, en" $(for model in base resized chat; do chars_per_token $model en; done)
row "bits per character, zh held out" $(for model in base resized chat; do bits $model zh; done)
row "bits per character, en held out" $(for model in base resized chat; do bits $model en; done)
row "English forgotten (guard: 10 %)" - - "$(forgotten)"
row "generated tokens/s" - - "$(sed -n 's/.*(\([0-9]*\) tokens\/s).*/\1/p' report/answer.log)"
row "files" $(for model in base resized chat; do du -sh "$model" | cut -f1; done)
cat <<END

question   $question
answer     $answer

training took $training s of $((SECONDS - started)) s in all
the model is $out/chat; talk to it:

    $llama2zh chat --model $out/chat
END
