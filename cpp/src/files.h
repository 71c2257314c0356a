// From files to scores: decode, window, batch, engine.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "aasist/aasist.h"
#include "engine.h"

namespace aasist {

// Told of each file in order; false ends.
using OnFile = std::function<bool(size_t index, const aasist_file_score& result, const std::string& message)>;

// Scores one window of each file. A path that is null counts as one that cannot be scored. Decodes the next
// batch while one is scored, so memory does not grow with the number of files.
void score_files(const Engine& engine, const char* const* paths, size_t n_paths, const OnFile& on_file);

// The window of one file; throws Error.
aasist_file_score score_file(const Engine& engine, const std::string& path);

}  // namespace aasist
