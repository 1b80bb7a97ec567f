// A handle on a box.
#pragma once

#include "error.h"
#include "loop.h"
#include "options.h"

class Box : public Napi::ObjectWrap<Box> {
  public:
    static Napi::Function define(Napi::Env env);
    static Napi::Value take(const std::shared_ptr<Loop> &loop, boxlite_op *op);
    // An array of all of them.
    static Napi::Value take_all(const std::shared_ptr<Loop> &loop, boxlite_op *op);
    explicit Box(const Napi::CallbackInfo &info);

  private:
    Napi::Value id(const Napi::CallbackInfo &info);
    Napi::Value name(const Napi::CallbackInfo &info);
    Napi::Value start(const Napi::CallbackInfo &info);
    Napi::Value stop(const Napi::CallbackInfo &info);
    Napi::Value pause(const Napi::CallbackInfo &info);
    Napi::Value resume(const Napi::CallbackInfo &info);
    Napi::Value inspect(const Napi::CallbackInfo &info);
    Napi::Value metrics(const Napi::CallbackInfo &info);
    Napi::Value list_execs(const Napi::CallbackInfo &info);
    Napi::Value create_snapshot(const Napi::CallbackInfo &info);
    Napi::Value list_snapshots(const Napi::CallbackInfo &info);
    Napi::Value get_snapshot(const Napi::CallbackInfo &info);
    Napi::Value restore_snapshot(const Napi::CallbackInfo &info);
    Napi::Value remove_snapshot(const Napi::CallbackInfo &info);
    Napi::Value clone(const Napi::CallbackInfo &info);
    Napi::Value clones(const Napi::CallbackInfo &info);
    Napi::Value grow_disk(const Napi::CallbackInfo &info);
    Napi::Value export_to(const Napi::CallbackInfo &info);
    Napi::Value attach(const Napi::CallbackInfo &info);
    Napi::Value attach_main(const Napi::CallbackInfo &info);
    Napi::Value exec(const Napi::CallbackInfo &info);
    Napi::Value run(const Napi::CallbackInfo &info);
    void close(const Napi::CallbackInfo &info);

    static Napi::Value make(const std::shared_ptr<Loop> &loop, boxlite_box *box);
    boxlite_op *start_cloning(const CloneOptions &options);
    boxlite_box *handle();

    std::shared_ptr<Loop> loop_;
    std::unique_ptr<boxlite_box, Freed<boxlite_box_free>> box_;
};
