// What happens to boxes, kept until JavaScript reads it.
#pragma once

#include <deque>

#include "error.h"
#include "loop.h"

// JavaScript sets its property `onready`, a function that is called when a read has found nothing and
// would not do so now.
//
// A dispatch takes events out of the library's queue whether or not anybody reads, so there is
// another one here, with a limit of its own.
class Subscription : public Napi::ObjectWrap<Subscription>, public Pending {
  public:
    static Napi::Function define(Napi::Env env);
    static Napi::Value make(const std::shared_ptr<Loop> &loop, uint32_t capacity);
    explicit Subscription(const Napi::CallbackInfo &info);
    ~Subscription() override;

    // No more will come; what is here can still be read.
    void end();

    void deliver() override;
    void abandon() noexcept override;

  private:
    struct Event {
        int32_t what;
        std::string box_id;
        std::optional<std::string> box_name;
        std::optional<std::string> text;
        uint64_t microseconds;
        uint32_t exec;
        int32_t code;
        int32_t signal;
        uint64_t lost;

        static Event of(const boxlite_event *event);
        Napi::Object to_js(Napi::Env env) const;
    };

    Napi::Value read(const Napi::CallbackInfo &info);
    void close(const Napi::CallbackInfo &info);
    void set_ref(const Napi::CallbackInfo &info);

    void keep(Event event);
    void release();
    void set_waiting(bool waiting);
    void hold();

    std::shared_ptr<Loop> loop_;
    std::unique_ptr<boxlite_subscription, Freed<boxlite_subscription_free>> subscription_;

    // As many as `capacity_`, and one more for how many there was no room for.
    size_t capacity_;
    std::deque<Event> events_;

    // Whether JavaScript waits, which keeps the object alive; and the process, unless `ref_` is false.
    bool waiting_ = false;
    bool ref_ = true;
};
