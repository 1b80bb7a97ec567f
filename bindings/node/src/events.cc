#include "events.h"

#include "instance.h"
#include "values.h"

namespace {

// What the constructor gets.
struct Wanted {
    std::shared_ptr<Loop> loop;
    uint32_t capacity;
};

std::optional<std::string> optional(const char *text)
{
    return text ? std::optional<std::string>(text) : std::nullopt;
}

// "boxStarted" of the library's "box started".
std::string kind_name(int32_t what)
{
    std::string name;
    bool begins = false;
    for (const char *c = boxlite_event_kind_name(what); *c; c++) {
        if (*c != ' ')
            name += begins && *c >= 'a' && *c <= 'z' ? static_cast<char>(*c - 'a' + 'A') : *c;
        begins = *c == ' ';
    }
    return name;
}

} // namespace

Subscription::Event Subscription::Event::of(const boxlite_event *event)
{
    return {
        boxlite_event_what(event),
        boxlite_event_box_id(event),
        optional(boxlite_event_box_name(event)),
        optional(boxlite_event_text(event)),
        boxlite_event_microseconds(event),
        boxlite_event_exec(event),
        boxlite_event_code(event),
        boxlite_event_signal(event),
        boxlite_event_lost(event),
    };
}

Napi::Object Subscription::Event::to_js(Napi::Env env) const
{
    auto optional_text = [&](const std::optional<std::string> &text) {
        return text_or_null(env, text ? text->c_str() : nullptr);
    };
    Napi::Object object = Napi::Object::New(env);
    object["kind"] = kind_name(what);
    object["boxId"] = text_or_null(env, box_id.empty() ? nullptr : box_id.c_str());
    object["boxName"] = optional_text(box_name);
    object["text"] = optional_text(text);
    object["microseconds"] = number(env, microseconds);
    object["execId"] = exec ? number(env, exec) : env.Null();
    object["code"] = what == BOXLITE_EVENT_EXEC_ENDED ? code_or_null(env, code) : env.Null();
    object["signal"] = Napi::Number::New(env, signal);
    object["lost"] = number(env, lost);
    return object;
}

Napi::Function Subscription::define(Napi::Env env)
{
    return DefineClass(env, "NativeSubscription",
                       {
                           InstanceMethod("read", &Subscription::read),
                           InstanceMethod("close", &Subscription::close),
                           InstanceMethod("setRef", &Subscription::set_ref),
                       });
}

Napi::Value Subscription::make(const std::shared_ptr<Loop> &loop, uint32_t capacity)
{
    Napi::Env env = loop->env();
    Wanted wanted{loop, capacity};
    return Instance::of(env).subscription_class.New({Napi::External<Wanted>::New(env, &wanted)});
}

// The callback's user data is the object itself, whose end frees the handle, after which the
// library calls nothing.
Subscription::Subscription(const Napi::CallbackInfo &info) : Napi::ObjectWrap<Subscription>(info)
{
    if (!info[0].IsExternal())
        throw Napi::TypeError::New(info.Env(), "a subscription comes from a runtime");
    Wanted *wanted = info[0].As<Napi::External<Wanted>>().Data();
    capacity_ = wanted->capacity;
    auto on_event = [](void *data, const boxlite_event *event) noexcept {
        auto *subscription = static_cast<Subscription *>(data);
        subscription->keep(Event::of(event));
        if (subscription->waiting_)
            subscription->loop_->due(subscription);
    };
    boxlite_subscription *subscription;
    call(info.Env(), boxlite_runtime_subscribe, wanted->loop->runtime(), wanted->capacity, +on_event,
         static_cast<void *>(this), boxlite_destroy{}, &subscription);
    subscription_.reset(subscription);
    loop_ = wanted->loop;
    loop_->subscriptions.insert(this);
}

Subscription::~Subscription()
{
    release();
}

// Where there is no room, the last of the queue counts what is missing.
void Subscription::keep(Event event)
{
    bool counts = event.what == BOXLITE_EVENT_OVERFLOW;
    if (events_.size() < capacity_) {
        events_.push_back(std::move(event));
    } else if (events_.back().what == BOXLITE_EVENT_OVERFLOW) {
        events_.back().lost += counts ? event.lost : 1;
    } else {
        uint64_t lost = counts ? event.lost : 1;
        uint64_t at = event.microseconds;
        events_.push_back({BOXLITE_EVENT_OVERFLOW, "", {}, {}, at, 0, 0, 0, lost});
    }
}

// read(): an event; null at the end; undefined if there is nothing now.
Napi::Value Subscription::read(const Napi::CallbackInfo &info)
{
    Napi::Env env = info.Env();
    if (!events_.empty()) {
        Event event = std::move(events_.front());
        events_.pop_front();
        return event.to_js(env);
    }
    if (!subscription_)
        return env.Null();
    set_waiting(true);
    return env.Undefined();
}

// close(): nobody will read any more.
void Subscription::close(const Napi::CallbackInfo &)
{
    events_.clear();
    set_waiting(false);
    release();
}

// setRef(wanted): whether waiting keeps the process alive.
void Subscription::set_ref(const Napi::CallbackInfo &info)
{
    ref_ = info[0].As<Napi::Boolean>();
    hold();
}

void Subscription::end()
{
    release();
    deliver();
}

// Lets go of the runtime.
void Subscription::release()
{
    if (!loop_)
        return;
    subscription_.reset();
    loop_->subscriptions.erase(this);
    loop_->remove(this);
    loop_.reset();
}

void Subscription::set_waiting(bool waiting)
{
    if (waiting == waiting_)
        return;
    waiting_ = waiting;
    hold();
    if (waiting)
        Ref();
    else
        Unref();
}

void Subscription::hold()
{
    if (!loop_)
        return;
    if (waiting_ && ref_)
        loop_->add(this);
    else
        loop_->remove(this);
}

void Subscription::deliver()
{
    if (!waiting_)
        return;
    Napi::Env env = Env();
    // Keeps the object while it is called.
    Napi::Object self = Value();
    set_waiting(false);
    run_callback(env, self, self.Get("onready").As<Napi::Function>(), {});
}

// The object's own end frees the handle.
void Subscription::abandon() noexcept {}
