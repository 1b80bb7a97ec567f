// C++ exceptions: caught where the library calls back and thrown on by boxlite::dispatch; and what
// becomes of one that leaves a raw callback.
#include "../../bindings/cpp/boxlite.hpp"
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sys/wait.h>
#include <unistd.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);         \
            std::exit(1);                                                                          \
        }                                                                                          \
    } while (0)

// An exception that is no std::exception.
struct oddity {
    int value;
};

static std::string home, image;

static boxlite::runtime open_runtime()
{
    auto options = boxlite::make<boxlite_runtime_options>(boxlite_runtime_options_new);
    boxlite::call(boxlite_runtime_options_set_home, options.get(), home.c_str());
    return boxlite::make<boxlite_runtime>(boxlite_runtime_open, options.get());
}

static boxlite::box new_box(boxlite_runtime *runtime)
{
    auto options = boxlite::make<boxlite_box_options>(boxlite_box_options_new, image.c_str());
    auto op = boxlite::make<boxlite_op>(boxlite_box_create, runtime, options.get());
    boxlite::call(boxlite_op_wait, op.get(), 120000);
    return boxlite::make<boxlite_box>(boxlite_op_take_box, op.get());
}

static boxlite::exec start(boxlite_box *box, const char *script)
{
    const char *argv[] = {"sh", "-c", script};
    auto options = boxlite::make<boxlite_exec_options>(boxlite_exec_options_new, argv, 3u);
    auto op = boxlite::make<boxlite_op>(boxlite_box_exec, box, options.get());
    boxlite::call(boxlite_op_wait, op.get(), 120000);
    return boxlite::make<boxlite_exec>(boxlite_op_take_exec, op.get());
}

template <typename F> static void dispatch_until(boxlite_runtime *runtime, F done)
{
    // The limit only guards against hanging.
    auto limit = std::chrono::steady_clock::now() + std::chrono::seconds(60);
    while (!done()) {
        CHECK(std::chrono::steady_clock::now() < limit);
        boxlite::dispatch(runtime, 100);
    }
}

static void errors_are_exceptions()
{
    auto options = boxlite::make<boxlite_box_options>(boxlite_box_options_new, "image");
    try {
        boxlite::call(boxlite_box_options_set_cpus, options.get(), 0u);
        CHECK(!"refused");
    } catch (const boxlite::error &e) {
        CHECK(e.code() == BOXLITE_INVALID_ARGUMENT && e.object() == "cpus");
        CHECK(std::strstr(e.what(), "cpus") && e.os_error() == 0 && !e.is_retryable());
    }
}

static void what_a_callback_throws_is_thrown_by_dispatch(boxlite_runtime *runtime, boxlite_box *box)
{
    auto exec = start(box, "echo one; sleep 0.2; echo two; exit 3");
    auto token = std::make_shared<int>(0);
    int outputs = 0, exits = 0, caught = 0;
    std::string out;
    boxlite::on_stdout(exec.get(), [&, token](const std::uint8_t *data, std::size_t length) {
        out.append(reinterpret_cast<const char *>(data), length);
        if (outputs++ == 0)
            throw std::invalid_argument("thrown by the first");
    });
    boxlite::on_exit(exec.get(), [&, token](std::int32_t code, std::int32_t signal, const boxlite_error *why) {
        CHECK(code == 3 && signal == 0 && !why);
        exits++;
        throw oddity{42};
    });
    CHECK(token.use_count() == 3);
    while (exits == 0 || caught < 2) {
        try {
            dispatch_until(runtime, [&] { return exits > 0; });
        } catch (const std::invalid_argument &e) {
            // Exactly it, at the call that ran the callback; and the rest comes all the same.
            CHECK(!std::strcmp(e.what(), "thrown by the first") && outputs == 1 && exits == 0);
            caught++;
        } catch (const oddity &o) {
            CHECK(o.value == 42 && exits == 1);
            caught++;
        }
    }
    CHECK(caught == 2 && out == "one\ntwo\n");
    // Thrown once.
    CHECK(!boxlite::dispatch(runtime, 0));
    exec.reset();
    CHECK(token.use_count() == 1);
}

static void what_callbacks_throw_is_thrown_by_wait(boxlite_box *box)
{
    auto exec = start(box, "echo one; sleep 0.2; echo two >&2; exit 7");
    int outputs = 0, errors = 0;
    boxlite::on_stdout(exec.get(), [&](const std::uint8_t *, std::size_t) { outputs++; throw oddity{1}; });
    boxlite::on_stderr(exec.get(), [&](const std::uint8_t *, std::size_t) { errors++; throw oddity{2}; });
    try {
        boxlite::wait(exec.get(), 60000);
        CHECK(!"thrown");
    } catch (const oddity &o) {
        // The first of them, after the wait.
        CHECK(o.value == 1 && outputs == 1 && errors == 1);
    }
    CHECK(boxlite::wait(exec.get(), 60000) == 7);
}

static void operations_have_functions_too(boxlite_runtime *runtime, boxlite_box *box)
{
    auto token = std::make_shared<int>(0);
    auto op = boxlite::make<boxlite_op>(boxlite_box_inspect, box);
    boxlite::on_complete(op.get(), [token](boxlite_op *) { throw oddity{0}; });
    // Replaced, then removed: each function is destroyed once.
    std::string id;
    boxlite::on_complete(op.get(), [&, token](boxlite_op *done) {
        auto info = boxlite::make<boxlite_box_info>(boxlite_op_take_info, done);
        id = boxlite_box_info_id(info.get());
        throw std::runtime_error(id);
    });
    CHECK(token.use_count() == 2);
    boxlite::on_progress(op.get(), [token](const boxlite_progress *) {});
    boxlite::on_progress(op.get(), nullptr);
    CHECK(token.use_count() == 2);
    try {
        dispatch_until(runtime, [&] { return !id.empty(); });
        CHECK(!"thrown");
    } catch (const std::runtime_error &e) {
        CHECK(id == boxlite_box_id(box) && id == e.what());
    }
    CHECK(token.use_count() == 1);
    // Refused, with its function destroyed.
    try {
        boxlite::on_complete(nullptr, [token](boxlite_op *) {});
        CHECK(!"refused");
    } catch (const boxlite::error &e) {
        CHECK(e.code() == BOXLITE_INVALID_ARGUMENT && e.object() == "op");
    }
    CHECK(token.use_count() == 1);
}

// ---- raw callbacks that throw -------------------------------------------------------------------

extern "C" {
static void raw_complete(void *, boxlite_op *) { throw oddity{1}; }
static void raw_output(void *, const std::uint8_t *, std::size_t) { throw oddity{2}; }
static void raw_destroy(void *) { throw oddity{3}; }
}

// Runs in a child, which must be ended by SIGABRT: never by going on.
template <typename F> static void must_abort(F body)
{
    std::fflush(nullptr);
    pid_t child = fork();
    CHECK(child >= 0);
    if (child == 0) {
        // What the runtime says as it ends the program is expected.
        CHECK(std::freopen("/dev/null", "w", stderr));
        try {
            body();
        } catch (...) {
            _exit(10);
        }
        _exit(11);
    }
    int status;
    CHECK(waitpid(child, &status, 0) == child);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        std::fprintf(stderr, "the child ended with status %#x\n", static_cast<unsigned>(status));
        std::exit(1);
    }
}

static void an_exception_that_leaves_a_raw_callback_ends_the_program()
{
    must_abort([] {
        auto runtime = open_runtime();
        auto op = boxlite::make<boxlite_op>(boxlite_box_list, runtime.get());
        boxlite::call(boxlite_op_on_complete, op.get(), raw_complete, nullptr, nullptr);
        for (;;)
            boxlite_dispatch(runtime.get(), 1000, nullptr, nullptr);
    });
    must_abort([] {
        auto runtime = open_runtime();
        auto box = new_box(runtime.get());
        auto exec = start(box.get(), "echo x");
        boxlite::call(boxlite_exec_on_stdout, exec.get(), raw_output, nullptr, nullptr);
        boxlite_exec_wait(exec.get(), 60000, nullptr, nullptr);
    });
    must_abort([] {
        boxlite_op_on_complete(nullptr, raw_complete, nullptr, raw_destroy, nullptr);
    });
}

int main()
{
    char directory[] = "/tmp/boxlite-test-XXXXXX";
    CHECK(mkdtemp(directory));
    home = directory;
    image = std::string(std::getenv("BOXLITE_TEST_IMAGES")) + "/busybox";
    an_exception_that_leaves_a_raw_callback_ends_the_program();
    errors_are_exceptions();
    {
        auto runtime = open_runtime();
        auto box = new_box(runtime.get());
        what_a_callback_throws_is_thrown_by_dispatch(runtime.get(), box.get());
        what_callbacks_throw_is_thrown_by_wait(box.get());
        operations_have_functions_too(runtime.get(), box.get());
        auto op = boxlite::make<boxlite_op>(boxlite_runtime_shutdown, runtime.get(), 0u);
        boxlite::call(boxlite_op_wait, op.get(), 60000);
    }
    CHECK(std::system(("rm -rf " + home).c_str()) == 0);
}
