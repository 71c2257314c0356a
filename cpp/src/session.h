// One session of ONNX Runtime on the CPU, through its C API.
#pragma once

#include <string>
#include <vector>

#include "backend.h"
#include "contract.h"

struct OrtApi;
struct OrtSession;
struct OrtSessionOptions;
struct OrtMemoryInfo;
struct OrtValue;

namespace aasist {

class Session final : public Backend {
 public:
  // Throws Error: AASIST_MODEL_FILE where ONNX Runtime cannot open the bytes or they are not what the contract
  // says; AASIST_ENVIRONMENT where the runtime is too old.
  Session(const OnnxFile& file, const Contract& contract, int threads, const std::string& name);
  ~Session() override;
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void run(const float* waves, size_t n_waves, size_t n_samples, float* scores) const override;
  float step(const float* samples, size_t n_samples, float* state) const override;

 private:
  void check_names(const Contract& contract, const std::string& name) const;
  void check_input(size_t index, int64_t columns, const std::string& name) const;
  OrtValue* tensor(const float* values, size_t rows, size_t columns) const;
  const float* values_of(OrtValue* result, size_t wanted, const std::string& output) const;

  const OrtApi& api_;
  OrtSession* session_ = nullptr;
  OrtMemoryInfo* cpu_ = nullptr;
  std::string input_;
  std::string output_;
  bool is_logits_;  // the score is column 1 of the output
  size_t state_size_;  // of a file for streams; else 0, and no names
  std::string state_input_;
  std::string state_output_;
};

}  // namespace aasist
