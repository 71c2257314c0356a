// One session of ONNX Runtime on the CPU, through its C API.
#pragma once

#include <string>
#include <vector>

#include "contract.h"

struct OrtApi;
struct OrtSession;
struct OrtSessionOptions;
struct OrtMemoryInfo;

namespace aasist {

class Session {
 public:
  // Throws Error: AASIST_MODEL_FILE where ONNX Runtime cannot open the bytes or they are not what the contract
  // says; AASIST_ENVIRONMENT where the runtime is too old.
  Session(const OnnxFile& file, const Contract& contract, int threads, const std::string& name);
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  // Exactly the batch of the graph: (n_waves, n_samples) -> n_waves scores. Thread-safe.
  void run(const float* waves, size_t n_waves, size_t n_samples, float* scores) const;

 private:
  void check_names(const Contract& contract, const std::string& name) const;

  const OrtApi& api_;
  OrtSession* session_ = nullptr;
  OrtMemoryInfo* cpu_ = nullptr;
  std::string input_;
  std::string output_;
  bool is_logits_;  // the score is column 1 of the output
};

}  // namespace aasist
