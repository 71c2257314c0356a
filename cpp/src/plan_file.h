// A TensorRT plan and the JSON beside it: docs/contract.md, layout aasist-deploy/plan/1. Needs no TensorRT.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "contract.h"

namespace aasist {

inline constexpr const char* kPlanSchema = "aasist-deploy/plan/1";

using Profile = std::array<int64_t, 3>;  // smallest, optimal and largest batch

struct PlanFile {
  std::vector<uint8_t> content;  // checked against the hash; give a runtime these bytes
  Contract contract;
  std::string runtime;           // "tensorrt" or "tensorrt_rtx"
  std::string tensorrt_version;  // such as "10.13.3.9"
  std::string sm;                // such as "9.0"; several are separated by blanks
  std::string gpu_name;          // "" when it was built for other machines
  std::vector<Profile> profiles;
  bool version_compatible = false;
  bool hardware_compatible = false;

  int64_t max_batch() const;
  std::string built_for() const;
};

// Whether a path is that of a plan: by its end, as in Python.
bool is_plan(const std::string& path);

// Reads a plan with its JSON. Throws Error(AASIST_MODEL_FILE): one of them is missing, damaged or of another version,
// or the JSON speaks of other bytes.
PlanFile read_plan(const std::string& path);

// What would run a plan here.
struct TensorRtHere {
  std::string version;
  std::string gpu_name;
  int sm_major = 0;
  int sm_minor = 0;
};

// Throws Error(AASIST_MODEL_FILE) for a plan of another TensorRT or GPU. A plan runs on the version that built it, or
// if built version-compatible on newer ones of the same major; and on the compute capability it was built for, or if
// built hardware-compatible on newer ones from 8.0 on.
void check_fits(const PlanFile& plan, const std::string& path, const TensorRtHere& here);

}  // namespace aasist
