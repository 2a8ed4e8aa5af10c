#!/usr/bin/env bash
# Tests, benchmarks and trainings on a machine with a GPU, each for a bounded time: README.md beside this file.
#
#     recipes/gpu/run.sh [FOLDER] [RECIPE.toml=SECONDS ...]
set -uo pipefail
cd "$(dirname "$0")/../.."
folder=${1:-runs/gpu}
shift $(($# > 0 ? 1 : 0))
export PYTHONPATH="$PWD${PYTHONPATH:+:$PYTHONPATH}" PYTHONUNBUFFERED=1
python=${PYTHON:-python3}
failed=0
for one in "$@"; do
    if [[ ! $one =~ ^.+=[0-9]+$ || ! -f ${one%=*} ]]; then
        echo "$one is no training; expected RECIPE.toml=SECONDS, a recipe that is there and for how long" >&2
        exit 2
    fi
done

# step NAME SECONDS COMMAND...: its output goes to the screen and to FOLDER/NAME.txt as it is made
step() {
    local name=$1 seconds=$2 begun=$SECONDS status
    shift 2
    echo "== $name: $*, up to $seconds s"
    # one SIGINT, to the command alone: a second one would end a training at once
    timeout --foreground --signal INT --kill-after 30 "$seconds" "$@" 2>&1 < /dev/null | tee "$folder/$name.txt"
    status=${PIPESTATUS[0]}
    [ "$status" = 124 ] && echo "== $name stopped after its $seconds s"
    echo "$name status $status after $((SECONDS - begun)) s" | tee -a "$folder/summary.txt"
    [ "$status" = 0 ] || [[ "$status $name" == "124 train-"* ]] || failed=1
}

mkdir -p "$folder" || exit 2
date > "$folder/summary.txt"
if ! $python -c "import torch, torchaudio, numpy, soundfile, safetensors, pydantic, jinja2, typer, tqdm"; then
    echo "$python lacks a package of pyproject.toml's dependencies; put it on PYTHONPATH" | tee -a "$folder/summary.txt"
    exit 2
fi
step machine 30 $python -c "import torch
print('torch', torch.__version__, 'CUDA', torch.version.cuda)
print(torch.cuda.get_device_properties(0) if torch.cuda.is_available() else 'no GPU: tests are skipped')"
# a thread for each process, or they take the cores from each other; each holds some of the card's memory
processes=${TEST_PROCESSES:-$(($(nproc) < 16 ? $(nproc) : 16))}
OMP_NUM_THREADS=1 TORCHINDUCTOR_COMPILE_THREADS=1 step tests "${TEST_SECONDS:-300}" $python -m pytest -m cuda \
    tests/test_cuda.py tests/test_cuda_graphs.py tests/test_triton.py -n "$processes" -rA --durations 15 \
    -p no:cacheprovider -p no:benchmark --basetemp "${TMPDIR:-/tmp}/wavenet-gpu-tests" --junit-xml "$folder/tests.xml"
step bench-train "${BENCH_TRAIN_SECONDS:-180}" $python -m wavenet bench --train ${BENCH_OPTIONS:-}
step bench "${BENCH_SECONDS:-60}" $python -m wavenet bench ${BENCH_OPTIONS:-}
for one in "$@"; do
    recipe=${one%=*} seconds=${one##*=}
    run=$(basename "$(dirname "$recipe")")-$(basename "$recipe" .toml)
    step "train-$run" "$seconds" $python -m wavenet train "$recipe" --resume --set "run=$folder/$run"
done
cat "$folder/summary.txt"
exit $failed
