// The same in C++, without a box: prints the library's version and opens a home.
#include <boxlite.h>
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>

static std::unique_ptr<boxlite_runtime, decltype(&boxlite_runtime_free)> open_home()
{
    boxlite_runtime *runtime = nullptr;
    boxlite_error *error = nullptr;
    if (boxlite_runtime_open(nullptr, &runtime, &error) != BOXLITE_OK) {
        std::string message = boxlite_error_message(error);
        boxlite_error_free(error);
        throw std::runtime_error(message);
    }
    return {runtime, boxlite_runtime_free};
}

int main()
{
    // An exception of the program's own, with the library's unwinder linked beside it.
    try {
        throw std::runtime_error(boxlite_version());
    } catch (const std::runtime_error &version) {
        std::cout << version.what() << '\n';
    }
    return open_home() ? 0 : 1;
}
