#!/usr/bin/env bash
# Two network namespaces, joined by a cable, as two hosts. Ranks of two launchers meet and add, so do ranks in torchrun's environment without a launcher, and those of Open MPI, which train as well; the store's port is open at
# the named address alone; a host that is lost ends the run on the other one.
set -euo pipefail
worker=${1:?the path of rank_worker}
llama2zh=${LLAMA2ZH_BINARY:?run it through ctest}
skip() { echo "skipped: $*"; exit 77; }
fail() { echo "FAILED: $*" >&2; exit 1; }
a=l2za$$ b=l2zb$$
work=$(mktemp -d)
pids=()
clean_up() {
  local host left
  for host in "$a" "$b"; do
    left=$(ip netns pids "$host" 2> /dev/null) && [ -z "$left" ] || kill -9 $left 2> /dev/null || true
    ip netns del "$host" 2> /dev/null || true
  done
  rm -rf "$work"
}
trap clean_up EXIT
[ "$(id -u)" = 0 ] || skip "not root, who alone can make network namespaces"
command -v ip > /dev/null || skip "no ip; scripts/setup.sh --tests installs iproute2"
{ ip netns add "$a" && ip netns add "$b"; } 2> /dev/null || skip "no network namespaces on this machine"
ip link add "$a" type veth peer name "$b" 2> /dev/null || skip "no veth on this machine"
address=10.213.77.1
for host in "$a" "$b"; do
  ip link set "$host" netns "$host"
  ip -n "$host" address add "10.213.77.$([ "$host" = "$a" ] && echo 1 || echo 2)/24" dev "$host"
  ip -n "$host" link set "$host" up
  ip -n "$host" link set lo up
done
show() { tail -n 5 "$work/log.0" "$work/log.1"; }

# launch_both RANKS ARGUMENTS...: a launcher on each host, in the background.
launch_both() {
  local node=0 host ranks=$1
  shift
  for host in "$a" "$b"; do
    ip netns exec "$host" timeout --foreground 200 "$llama2zh" launch --nproc-per-node "$ranks" --nnodes 2 --node-rank $node --master-addr $address --program "$worker" -- "$@" \
      > "$work/log.$node" 2>&1 &
    pids[node]=$!
    node=$((node + 1))
  done
}
launch_both 2 sum
for node in 0 1; do wait "${pids[$node]}" || fail "launcher $node: $(show)"; done
grep -qF "llama2zh launch: 4 ranks, sum 6, hosts 2, at $address" "$work/log.0" || fail "$(show)"

# As torchrun has it, one rank a host.
export WORLD_SIZE=2 LOCAL_RANK=0 LOCAL_WORLD_SIZE=1 MASTER_ADDR=$address MASTER_PORT=29555
RANK=0 ip netns exec "$a" timeout 200 "$worker" sum > "$work/log.0" 2>&1 &
pids[0]=$!
RANK=1 ip netns exec "$b" timeout 200 "$worker" sum > "$work/log.1" 2>&1 || fail "rank 1: $(show)"
wait "${pids[0]}" || fail "rank 0: $(show)"
grep -qF "torchrun: 2 ranks, sum 1, hosts 2, at $address" "$work/log.0" || fail "$(show)"
unset WORLD_SIZE LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT

# Open MPI, whose daemon on the other host is started by what stands in for ssh. Hosts have names of their own.
on_host() {
  local host=$1
  shift
  ip netns exec "$host" unshare --uts sh -c "hostname $host; exec \"\$@\"" sh "$@"
}
train_with_mpirun() {
  export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 LLAMA2ZH_CACHE=$work/cache
  export MASTER_PORT=29556 MPIRUN_OPTIONS="--mca plm_rsh_agent $work/agent --mca oob_tcp_if_include 10.213.77.0/24"
  cat > "$work/agent" <<END
#!/bin/sh
[ "\$1" = 10.213.77.2 ] || exit 9
shift
exec ip netns exec $b unshare --uts sh -c "hostname $b; \$*"
END
  chmod +x "$work/agent"
  on_host "$a" timeout 120 mpirun -H $address:1,10.213.77.2:1 $MPIRUN_OPTIONS -x MASTER_ADDR=$address -x MASTER_PORT "$worker" sum > "$work/log.0" 2>&1 || fail "mpirun: $(show)"
  grep -qF "MPI: 2 ranks, sum 1, hosts 2, at $address" "$work/log.0" || fail "$(show)"
  MASTER_PORT=29557 LLAMA2ZH=$llama2zh on_host "$a" timeout 300 "$root/scripts/examples/mpirun.sh" $address:1,10.213.77.2:1 "$work/tiny.json" --output_dir "$work/two" \
    > "$work/log.0" 2>&1 || fail "mpirun.sh: $(show)"
  "$llama2zh" pretrain --config "$work/tiny.json" --train.gradient_accumulation_steps 2 --output_dir "$work/one" > "$work/log.1" 2>&1 || fail "one process: $(show)"
  expect_same_losses "$work/one" "$work/two"
  unset MASTER_PORT
}
if command -v mpirun > /dev/null; then
  root=$(cd "$(dirname "$0")/../.." && pwd)
  source "$root/tests/distributed/tiny_training.sh" "$work"
  train_with_mpirun
else
  echo "without Open MPI: scripts/setup.sh --tests installs openmpi-bin"
fi

# A signal to one launcher stops the ranks of both.
start_for_ever() {
  rm -f "$work/there"
  launch_both 1 forever "$work/there"
  for _ in $(seq 600); do [ ! -e "$work/there" ] || return 0; sleep 0.1; done
  fail "they do not meet: $(show)"
}
start_for_ever
ip netns exec "$a" ss -Hltn > "$work/ports"
grep -qF "$address:29500" "$work/ports" || fail "nobody listens at the named address: $(cat "$work/ports")"
! grep -qE '(0\.0\.0\.0|\*|\[::\]):29500' "$work/ports" || fail "the store listens at every address: $(cat "$work/ports")"
kill -TERM "${pids[1]}"
for node in 0 1; do wait "${pids[$node]}" || fail "launcher $node after SIGTERM: $(show)"; done

# Host 1 goes: the cable is cut first, so that nothing says goodbye.
start_for_ever
ip -n "$b" link set "$b" down
kill -9 $(ip netns pids "$b")
! wait "${pids[0]}" || fail "host 0 went on alone: $(show)"
grep -q 'error: rank 0: .*rank 1 is lost' "$work/log.0" && grep -q 'error: rank 0 on .* ended with exit code 1' "$work/log.0" || fail "host 0 does not say what was lost: $(show)"
tail -n 1 "$work/log.0"
