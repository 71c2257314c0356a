// What runs a network: ONNX Runtime on the CPU, or TensorRT where it was compiled in.
#pragma once

#include <cstddef>

namespace aasist {

// Several threads may call one object at once.
class Backend {
 public:
  virtual ~Backend() = default;

  // (n_waves, n_samples) -> n_waves scores; a batch that the graph takes.
  virtual void run(const float* waves, size_t n_waves, size_t n_samples, float* scores) const = 0;

  // The next frames of one stream, of a file for streams: (n_samples,) samples and the state, which is replaced by
  // the next one -> the score of the window that ends with them.
  virtual float step(const float* samples, size_t n_samples, float* state) const = 0;
};

}  // namespace aasist
