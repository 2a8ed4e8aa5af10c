#!/bin/sh
# Builds portable.cpp by each compiler that is installed, runs it, and compares what it prints with expected.txt.
set -eu
cd "$(dirname "$0")/../.."
source=wavenet/engines/native
build=build/portable
mkdir -p "$build"

# try NAME EMULATOR COMPILER FLAGS...; an empty EMULATOR runs the program itself
try() {
    name=$1 emulator=$2 compiler=$3
    shift 3
    for tool in "$compiler" $emulator; do
        command -v "$tool" > /dev/null || { echo "$name: skipped because it is not installed: $tool"; return 0; }
    done
    flags="-std=c++17 -O2 -fno-math-errno -Wall -Wextra -Wno-psabi -Werror $*"
    "$compiler" $flags -ffp-contract=off -c $source/int8.cpp -o "$build/int8.o"
    "$compiler" $flags -ffp-contract=fast -c $source/engine.cpp -o "$build/engine.o"
    "$compiler" $flags -o "$build/$name" tests/portable/portable.cpp "$build/int8.o" "$build/engine.o" -pthread
    $emulator "$build/$name" > "$build/$name.txt"
    diff -u tests/portable/expected.txt "$build/$name.txt" || { echo "$name: other audio"; exit 1; }
    echo "$name: the same audio"
}

try gcc "" g++
try clang "" clang++
try aarch64 qemu-aarch64 aarch64-linux-gnu-g++ -static
try aarch64-dotprod qemu-aarch64 aarch64-linux-gnu-g++ -static -march=armv8.2-a+dotprod
