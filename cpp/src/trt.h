// A plan in TensorRT on one GPU; compiled where its headers are, see AASIST_TENSORRT in CMakeLists.txt.
#pragma once

#include <memory>
#include <string>

#include "backend.h"
#include "plan_file.h"

namespace aasist {

// Throws Error: AASIST_MODEL_FILE where the plan does not fit this machine or is not what its contract says,
// AASIST_ENVIRONMENT where there is no GPU, no memory on it, or this library was built without TensorRT.
std::unique_ptr<Backend> open_plan(const PlanFile& plan, const std::string& path);

}  // namespace aasist
