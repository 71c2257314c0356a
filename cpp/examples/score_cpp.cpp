// Scores samples that the program has, from C++:  score_cpp MODEL
#include <aasist/aasist.h>

#include <cmath>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <vector>

void check(aasist_status status) {
  if (status != AASIST_OK) throw std::runtime_error(std::string(aasist_message()) + " " + aasist_fix());
}

int main(int argc, char** argv) try {
  if (argc != 2) throw std::runtime_error("usage: score_cpp MODEL");
  aasist_model* opened = nullptr;
  check(aasist_open(argv[1], nullptr, &opened));
  const std::unique_ptr<aasist_model, void (*)(aasist_model*)> model(opened, aasist_close);
  aasist_info info{};
  check(aasist_model_info(model.get(), &info, sizeof info));
  std::vector<float> clip(16000);  // one second; a microphone would fill it
  for (size_t i = 0; i < clip.size(); ++i) clip[i] = 0.1F * std::sin(0.05F * static_cast<float>(i));
  std::vector<float> window(aasist_window_samples(model.get(), clip.size()));
  check(aasist_window(model.get(), clip.data(), clip.size(), window.data(), window.size()));
  float score = 0;
  check(aasist_score(model.get(), window.data(), 1, window.size(), &score));
  std::cout << info.architecture << ": " << score << " (" << info.score << ")\n";
} catch (const std::exception& error) {
  std::cerr << "error: " << error.what() << "\n";
  return 2;
}
