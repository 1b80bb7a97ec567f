// An open home.
#pragma once

#include "loop.h"

class Runtime : public Napi::ObjectWrap<Runtime> {
  public:
    static Napi::Function define(Napi::Env env);
    explicit Runtime(const Napi::CallbackInfo &info);

  private:
    Napi::Value create(const Napi::CallbackInfo &info);
    Napi::Value create_from_disk(const Napi::CallbackInfo &info);
    Napi::Value list_files(const Napi::CallbackInfo &info);
    Napi::Value prune(const Napi::CallbackInfo &info);
    Napi::Value import_from(const Napi::CallbackInfo &info);
    Napi::Value get(const Napi::CallbackInfo &info);
    Napi::Value list(const Napi::CallbackInfo &info);
    Napi::Value remove(const Napi::CallbackInfo &info);
    Napi::Value shutdown(const Napi::CallbackInfo &info);
    Napi::Value subscribe(const Napi::CallbackInfo &info);
    Napi::Value metrics(const Napi::CallbackInfo &info);
    Napi::Value metrics_text(const Napi::CallbackInfo &info);
    Napi::Value pool_ready(const Napi::CallbackInfo &info);
    Napi::Value counters(const Napi::CallbackInfo &info);
    void close(const Napi::CallbackInfo &info);

    boxlite_runtime *handle();

    std::shared_ptr<Loop> loop_;
};
