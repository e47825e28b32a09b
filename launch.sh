#!/usr/bin/env bash
# Sets up .venv where it is missing, then runs a program of experiments/, the
# test suite, or, with --nprocs, the program mnist in several processes.
# `./launch.sh --help` lists the programs.
# KAN_JAX_ACCELERATOR=cuda|tpu installs JAX for that device; the default is cpu.
# PYTHON names the interpreter for a new .venv: 3.11 to 3.13; default python3.
set -euo pipefail

# What people come for, in this order; all others are listed after these.
user_programs=(mnist formula view export sweep records rehearse device_check)
# What only those who change the code need.
check_programs=(crash goals)

usage() {
  cat <<'END'
usage: ./launch.sh PROGRAM [--flags]              PROGRAM --help lists its flags
       ./launch.sh --nprocs=N mnist [--flags]     in N processes on this host
       ./launch.sh test [pytest arguments]        the test suite

Programs:
END
  local name
  for name in "${user_programs[@]}"; do
    describe "$name"
  done
  printf '\nMeasurements:\n'
  for name in $(programs); do
    [[ " ${user_programs[*]} ${check_programs[*]} " == *" $name "* ]] ||
      describe "$name"
  done
  printf '\nChecks, for those who change the code:\n'
  for name in "${check_programs[@]}"; do
    describe "$name"
  done
}

# Prints the names of all programs in experiments/, sorted.
programs() {
  (cd "$root/experiments" &&
    grep -lr --include='*.py' '^  cli.run(main)' . |
    sed -E 's#(/__main__)?\.py$##; s#.*/##' | sort)
}

# Prints a program's name and the first line of its docstring.
describe() {
  local module file
  module=$(module_of "$1")
  file=$root/${module//.//}
  [[ -d $file ]] && file=$file/__main__
  printf '  %-12s %s\n' "$1" "$(sed -n '1s/^"""//p' "$file.py")"
}

# Ends with exit code 2, after what is wrong and where to read more.
fail() {
  echo "error: $1; ./launch.sh --help lists what there is" >&2
  exit 2
}

# Prints the module of a program in experiments/: NAME.py, or NAME in a folder.
module_of() {
  local file
  for file in "$root/experiments/$1.py" "$root/experiments/$1/__main__.py" \
    "$root"/experiments/*/"$1.py"; do
    if grep -qs '^  cli.run(main)' "$file"; then
      file=${file#"$root/"}
      file=${file%.py}
      file=${file%/__main__}
      echo "${file//\//.}"
      return
    fi
  done
  return 1
}

# Installs the extras into .venv unless this same set is already there.
install() {
  local extras=$1 stamp="$root/.venv/installed-$1"
  local wanted
  wanted=$(sha256sum "$root/pyproject.toml")
  if [[ -e $stamp && $(cat "$stamp") == "$wanted" ]]; then
    return
  fi
  if [[ ! -x $root/.venv/bin/python ]]; then
    "${PYTHON:-python3}" -c 'import sys; sys.exit(
        None if (3, 11) <= sys.version_info < (3, 14) else
        "error: Python 3.11 to 3.13 is needed, not %d.%d; set PYTHON" %
        sys.version_info[:2])'
    echo "making .venv and installing kan_jax[$extras]; this takes a minute" >&2
    "${PYTHON:-python3}" -m venv "$root/.venv"
  fi
  "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    --editable "$root[$extras]" >&2
  echo "$wanted" >"$stamp"
}

root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
processes=
if [[ ${1-} == --nprocs=* ]]; then
  processes=${1#--nprocs=}
  shift
  if [[ ! $processes =~ ^[1-9][0-9]*$ || ${1-} != mnist ]]; then
    fail "--nprocs=$processes ${1-} is not possible; it counts processes, 1 or\
 more, of the program mnist"
  fi
fi
[[ $# -gt 0 ]] || fail 'a program is needed'
name=$1
shift
if [[ $name =~ ^(--help|-h|help)$ ]]; then
  usage
  exit
fi
device=${KAN_JAX_ACCELERATOR:-cpu}
case $device in
  cpu) device= ;;
  cuda | tpu) device=,$device ;;
  *)
    fail "KAN_JAX_ACCELERATOR=$device is not known; allowed are cpu, cuda, tpu"
    ;;
esac
if [[ $name == test ]]; then
  install "test$device"
  cd "$root"
  exec .venv/bin/python -m pytest "$@"
fi
[[ $name =~ ^[a-z_]+$ ]] && module=$(module_of "$name") ||
  fail "there is no program $name"
# This one runs a part of the test suite.
[[ $name == device_check ]] && extra=test || extra=experiments
install "$extra$device"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# A second run finds its compiled programs here.
export JAX_COMPILATION_CACHE_DIR=${JAX_COMPILATION_CACHE_DIR-$root/.venv/jax}
export JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0.3
if [[ $processes ]]; then
  exec "$root/.venv/bin/python" -m experiments.devices.launch "$processes" "$name" \
    "$@"
fi
exec "$root/.venv/bin/python" -m "$module" "$@"
