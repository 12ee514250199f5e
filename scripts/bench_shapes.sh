# Sourced by the benches, after common.sh: the models that they measure. Not meant to be run.

# Sets peers (the folder of the peers' scripts) and sizes (what make_model.py there is told) for a shape.
bench_shape() { # SHAPE
  case $1 in
    m13) sizes=(--layers 4) ;;
    m135) sizes=(--layers 30 --hidden 576 --inter 1536 --heads 9 --kv 3) ;;
    tiny) sizes=(--layers 2 --hidden 64 --inter 192 --heads 4 --kv 2 --vocab "${BENCH_VOCAB:-512}") ;;
    *) die "unknown shape $1: m13, m135 or tiny" ;;
  esac
  peers=${LLAMA2ZH_SHARED:-$root/../shared}/bench
}
