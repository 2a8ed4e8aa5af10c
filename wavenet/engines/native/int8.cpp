// Makes a network of int8 weights. Compile it without fused multiply-adds (-ffp-contract=off): see simd.h.
#define WAVENET_REPRODUCIBLE
#include "int8.h"
#include "network.h"

namespace wavenet {

std::shared_ptr<const Network> make_int8_network(const Description& model) {
    return std::make_shared<PackedNetwork<Int8>>(model);
}

}  // namespace wavenet
