// A model file of any bytes: the outer layer and the contract, which a runtime sees only when both hold.
// The hash of the graph is set right, so that what lies behind its check is reached too.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "contract.h"
#include "error.h"
#include "onnx_file.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    auto file = aasist::parse_onnx(std::vector<uint8_t>(data, data + size), "fuzz.onnx");
    file.metadata["graph_sha256"] = file.graph_sha256;
    const auto contract = aasist::read_contract(file, "fuzz.onnx");
    // What a caller does next must hold for every contract that was taken.
    for (const size_t n : {size_t{1}, size_t{64600}, size_t{1} << 40}) {
      const size_t window = contract.window_of(n);
      if (window < 1 || (contract.n_samples && window != static_cast<size_t>(*contract.n_samples))) std::abort();
    }
  } catch (const aasist::Error& error) {
    if (error.status() != AASIST_MODEL_FILE || *error.what() == '\0') std::abort();
  }
  return 0;
}
