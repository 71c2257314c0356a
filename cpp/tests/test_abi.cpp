// Versions, names, and messages that fit their place.
#include "helpers.h"

TEST_SUITE("abi") {
  TEST_CASE("the library has the version and the ABI of its header") {
    CHECK(std::string(aasist_version()) == AASIST_VERSION);
    CHECK(aasist_abi_version() == AASIST_ABI_VERSION);
    CHECK(aasist_check_abi(AASIST_ABI_VERSION) == AASIST_OK);
    CHECK(aasist_check_abi(AASIST_ABI_VERSION + 1) == AASIST_ENVIRONMENT);
    CHECK_MESSAGE_SAYS("compiled for ABI 2 of libaasist");
    CHECK(contains(aasist_fix(), "compile the program again"));
    CHECK(contains(aasist_runtime_version(), "1."));
  }

  TEST_CASE("structs have the layout of ABI 1") {
    CHECK(sizeof(aasist_options) == sizeof(size_t) + 3 * 4 + (sizeof(size_t) == 8 ? 4 : 0));
    CHECK(sizeof(aasist_window_score) == 32);
    CHECK(sizeof(aasist_file_score) == 48);
    CHECK(sizeof(aasist_info) == 8 * sizeof(void*) + 8 + 6 * 8);
  }

  TEST_CASE("statuses have the names of the exceptions in Python") {
    CHECK(std::string(aasist_status_name(AASIST_MODEL_FILE)) == "ModelFileError");
    CHECK(std::string(aasist_status_name(AASIST_ENVIRONMENT)) == "EnvironmentLacks");
    CHECK(std::string(aasist_status_name(99)) == "unknown");
    CHECK(std::string(aasist_status_name(-1)) == "unknown");
  }

  TEST_CASE("a message that is too long is cut, and says so") {
    const std::string path = "/" + std::string(5000, 'x');
    aasist_model* model = nullptr;
    CHECK(aasist_open(path.c_str(), nullptr, &model) == AASIST_MODEL_FILE);
    const std::string message = aasist_message();
    CHECK(message.size() == 2047);
    CHECK(message.substr(2044) == "...");
  }
}
