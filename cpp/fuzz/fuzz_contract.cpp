// A model file of any bytes: the outer layer and the contract, which a runtime sees only when both hold. The same bytes
// as the contract of a plan, which is one JSON object.
// The hash of the graph is set right, so that what lies behind its check is reached too.
#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "contract.h"
#include "error.h"
#include "onnx_file.h"

namespace {

// What a caller does next must hold for every contract that was taken.
void use(const aasist::Contract& contract) {
  for (const size_t n : {size_t{1}, size_t{64600}, size_t{1} << 40}) {
    const size_t window = contract.window_of(n);
    if (window < 1 || (contract.n_samples && window != static_cast<size_t>(*contract.n_samples))) std::abort();
  }
  if (contract.stream && (contract.stream->frame_samples < 1 || contract.stream->state_size < 1)) std::abort();
}

template <typename Read>
void expect_contract_or_error(Read read) {
  try {
    use(read());
  } catch (const aasist::Error& error) {
    if (error.status() != AASIST_MODEL_FILE || *error.what() == '\0') std::abort();
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size > 0 && data[0] == '{') {
    expect_contract_or_error([&] { return aasist::parse_contract(std::string(data, data + size), "fuzz.plan.json"); });
    return 0;
  }
  expect_contract_or_error([&] {
    auto file = aasist::parse_onnx(std::vector<uint8_t>(data, data + size), "fuzz.onnx");
    file.metadata["graph_sha256"] = file.graph_sha256;
    return aasist::read_contract(file, "fuzz.onnx");
  });
  return 0;
}
