// What the fake TensorRT of the tests has: one "GPU" in main memory, and an engine that scores with 8 * mean.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

struct FakeTensorRt {
  int n_devices = 1;
  int sm_major = 9;
  int sm_minor = 0;
  int32_t library_version = 101303;
  std::vector<std::array<int64_t, 3>> profiles{{1, 2, 4}, {8, 8, 16}};
  int64_t n_samples = 800;
  bool fails_to_run = false;
  bool host_code_allowed = false;
  std::vector<int64_t> batches;  // that were run
  int64_t n_arrays = 0;          // on the "GPU" now

  static FakeTensorRt& instance();
};
