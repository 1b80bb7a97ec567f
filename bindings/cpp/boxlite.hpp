// boxlite.hpp: libboxlite for C++17, in one header over boxlite.h.
//
// - Handles are unique_ptrs: boxlite::box b; b.get() is what the functions of boxlite.h want.
// - boxlite::check() makes a boxlite::error, an exception, of a status and its error.
// - Callbacks are std::functions. What they throw does not travel through the library, which would
//   end the program: it is kept, and boxlite::dispatch() or boxlite::wait() throws it on the thread
//   that called them, once the library has returned.
//
// Whatever is not here is called as in C; both mix freely. SPDX-License-Identifier: Apache-2.0
#ifndef BOXLITE_HPP
#define BOXLITE_HPP

#include <boxlite.h>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>

namespace boxlite {

// ---- errors -------------------------------------------------------------------------------------

// Why a call failed.
class error : public std::runtime_error {
public:
    // Takes what there is to know; `why` stays the caller's, and may be null.
    error(boxlite_status status, const boxlite_error *why)
        : std::runtime_error(why ? boxlite_error_message(why) : boxlite_status_name(status)),
          code_(status), object_(why && boxlite_error_object(why) ? boxlite_error_object(why) : ""),
          errno_(boxlite_error_errno(why)), retryable_(boxlite_error_is_retryable(why))
    {
    }

    boxlite_status code() const noexcept { return code_; }
    // What the error is about; empty if it is about nothing in particular.
    const std::string &object() const noexcept { return object_; }
    // The operating system's error number, or 0.
    int os_error() const noexcept { return errno_; }
    bool is_retryable() const noexcept { return retryable_; }

private:
    boxlite_status code_;
    std::string object_;
    int errno_;
    bool retryable_;
};

// ---- handles ------------------------------------------------------------------------------------

// Frees a handle of any type.
struct deleter {
    void operator()(boxlite_error *p) const noexcept { boxlite_error_free(p); }
    void operator()(boxlite_runtime_options *p) const noexcept { boxlite_runtime_options_free(p); }
    void operator()(boxlite_box_options *p) const noexcept { boxlite_box_options_free(p); }
    void operator()(boxlite_exec_options *p) const noexcept { boxlite_exec_options_free(p); }
    void operator()(boxlite_runtime *p) const noexcept { boxlite_runtime_free(p); }
    void operator()(boxlite_box *p) const noexcept { boxlite_box_free(p); }
    void operator()(boxlite_box_info *p) const noexcept { boxlite_box_info_free(p); }
    void operator()(boxlite_info_list *p) const noexcept { boxlite_info_list_free(p); }
    void operator()(boxlite_exec *p) const noexcept { boxlite_exec_free(p); }
    void operator()(boxlite_output *p) const noexcept { boxlite_output_free(p); }
    void operator()(boxlite_op *p) const noexcept { boxlite_op_free(p); }
};

template <typename T> using handle = std::unique_ptr<T, deleter>;

using runtime_options = handle<boxlite_runtime_options>;
using box_options = handle<boxlite_box_options>;
using exec_options = handle<boxlite_exec_options>;
using runtime = handle<boxlite_runtime>;
using box = handle<boxlite_box>;
using box_info = handle<boxlite_box_info>;
using info_list = handle<boxlite_info_list>;
using exec = handle<boxlite_exec>;
using output = handle<boxlite_output>;
using op = handle<boxlite_op>;

// Throws unless a call succeeded; takes its error.
inline void check(boxlite_status status, boxlite_error *why)
{
    handle<boxlite_error> owned(why);
    if (status != BOXLITE_OK)
        throw error(status, why);
}

// Calls a function of boxlite.h with an error to fill, and throws if it fails:
//
//     call(boxlite_box_options_set_cpus, options.get(), 2u);
template <typename F, typename... A> void call(F function, A &&...arguments)
{
    boxlite_error *why = nullptr;
    boxlite_status status = function(std::forward<A>(arguments)..., &why);
    check(status, why);
}

// The same for a function that results in a handle:
//
//     auto op = make<boxlite_op>(boxlite_box_start, box.get());
template <typename T, typename F, typename... A> handle<T> make(F function, A &&...arguments)
{
    T *made = nullptr;
    call(function, std::forward<A>(arguments)..., &made);
    return handle<T>(made);
}

// ---- callbacks ----------------------------------------------------------------------------------

namespace detail {

// What a callback on this thread has thrown, until it can be thrown on.
inline std::exception_ptr &thrown() noexcept
{
    thread_local std::exception_ptr pending;
    return pending;
}

inline void rethrow()
{
    if (thrown())
        std::rethrow_exception(std::exchange(thrown(), nullptr));
}

// The C functions for a std::function that the library keeps.
template <typename... A> struct trampoline {
    using function = std::function<void(A...)>;

    static void call(void *user_data, A... arguments) noexcept
    {
        try {
            (*static_cast<function *>(user_data))(arguments...);
        } catch (...) {
            // The first counts.
            if (!thrown())
                thrown() = std::current_exception();
        }
    }

    static void destroy(void *user_data) noexcept { delete static_cast<function *>(user_data); }

    // Sets a callback, or removes it for an empty function. The library owns the copy in any case.
    template <typename F, typename... H> static void set(F setter, function f, H... handle_and_more)
    {
        boxlite_error *why = nullptr;
        boxlite_status status;
        if (f)
            status = setter(handle_and_more..., call, new function(std::move(f)), destroy, &why);
        else
            status = setter(handle_and_more..., nullptr, nullptr, nullptr, &why);
        check(status, why);
    }
};

} // namespace detail

using bytes_function = std::function<void(const std::uint8_t *data, std::size_t length)>;
using exit_function = std::function<void(std::int32_t code, std::int32_t signal, const boxlite_error *why)>;
using ready_function = std::function<void(std::int32_t stream)>;
using complete_function = std::function<void(boxlite_op *op)>;
using progress_function = std::function<void(const boxlite_progress *progress)>;
using log_function = std::function<void(std::int32_t level, const char *target, const char *message)>;

inline void on_stdout(boxlite_exec *exec, bytes_function f)
{
    detail::trampoline<const std::uint8_t *, std::size_t>::set(boxlite_exec_on_stdout, std::move(f), exec);
}

inline void on_stderr(boxlite_exec *exec, bytes_function f)
{
    detail::trampoline<const std::uint8_t *, std::size_t>::set(boxlite_exec_on_stderr, std::move(f), exec);
}

inline void on_exit(boxlite_exec *exec, exit_function f)
{
    detail::trampoline<std::int32_t, std::int32_t, const boxlite_error *>::set(boxlite_exec_on_exit, std::move(f), exec);
}

inline void on_ready(boxlite_exec *exec, ready_function f)
{
    detail::trampoline<std::int32_t>::set(boxlite_exec_on_ready, std::move(f), exec);
}

inline void on_complete(boxlite_op *op, complete_function f)
{
    detail::trampoline<boxlite_op *>::set(boxlite_op_on_complete, std::move(f), op);
}

inline void on_progress(boxlite_op *op, progress_function f)
{
    detail::trampoline<const boxlite_progress *>::set(boxlite_op_on_progress, std::move(f), op);
}

inline void on_log(boxlite_runtime *runtime, std::int32_t level, log_function f)
{
    detail::trampoline<std::int32_t, const char *, const char *>::set(boxlite_runtime_on_log, std::move(f), runtime, level);
}

// ---- dispatch and wait --------------------------------------------------------------------------

// Runs one callback that is due, as boxlite_dispatch(); true if one ran. Throws what it threw.
inline bool dispatch(boxlite_runtime *runtime, std::int32_t timeout_ms, std::size_t *left = nullptr)
{
    boxlite_error *why = nullptr;
    boxlite_status status = boxlite_dispatch(runtime, timeout_ms, left, &why);
    handle<boxlite_error> owned(why);
    detail::rethrow();
    if (status == BOXLITE_TIMEOUT)
        return false;
    check(status, owned.release());
    return true;
}

// Waits for a command's end, as boxlite_exec_wait(), and returns its exit code. Throws what its
// first callback that threw did, after the wait.
inline std::int32_t wait(boxlite_exec *exec, std::int32_t timeout_ms)
{
    std::int32_t code = -1;
    boxlite_error *why = nullptr;
    boxlite_status status = boxlite_exec_wait(exec, timeout_ms, &code, &why);
    handle<boxlite_error> owned(why);
    detail::rethrow();
    check(status, owned.release());
    return code;
}

} // namespace boxlite

#endif
