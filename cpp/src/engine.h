// A loaded model: the contract and what runs it.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "backend.h"
#include "contract.h"
#include "plan_file.h"

namespace aasist {

struct EngineOptions {
  int threads = 0;  // 0: all cores that this process may use
  size_t max_batch = 16;  // one window's largest activation is 63 MB: larger batches gain nothing on a CPU
  bool allow_slow_precision = false;
};

// Scores waves; several threads may call `score` at once.
class Engine {
 public:
  // Throws Error: AASIST_MODEL_FILE, AASIST_USAGE (a precision that a CPU does not run), AASIST_ENVIRONMENT.
  Engine(const OnnxFile& file, const std::string& name, const EngineOptions& options);
  // A TensorRT plan, whose precision is that of its GPU. Throws Error as open_plan does.
  Engine(const PlanFile& plan, const std::string& path, const EngineOptions& options);
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  const Contract& contract() const { return contract_; }
  // Windows that are scored at once; larger batches are run in pieces.
  size_t max_batch() const { return max_batch_; }

  // (n_waves, n_samples) -> (n_waves,). Throws Error: AASIST_SHAPE for waves that do not fit, AASIST_MODEL_FILE where
  // the model is a file for streams.
  void score(const float* waves, size_t n_waves, size_t n_samples, float* scores) const;

  // Throws Error(AASIST_MODEL_FILE) where the model is a file for streams.
  void check_takes_waves() const;

  // One call of a stream, see Backend; `n_samples` must be 1 to max_frames whole frames, numbers all. Of a file for
  // streams alone.
  float step(const float* samples, size_t n_samples, float* state) const;

  // Throws Error(AASIST_MODEL_FILE) where the model is not calibrated.
  double llr(double score) const;
  // Throws Error(AASIST_USAGE) for a prior outside (0, 1), and as `llr`.
  double p_spoof(double score, double prior_spoof) const;

 private:
  Contract contract_;
  size_t max_batch_;
  std::unique_ptr<Backend> backend_;
};

// Throws Error(AASIST_ENVIRONMENT) where the runtime is older than the headers; returns its version.
const char* runtime_version();

}  // namespace aasist
