#include "op.h"

#include "error.h"

namespace {

using Take = decltype(&take_nothing);

// Owned by the callback that the library holds; has handed itself on once that was called.
class Op : public Pending, public std::enable_shared_from_this<Op> {
  public:
    Op(std::shared_ptr<Loop> loop, boxlite_op *op, Napi::Function done, Take take)
        : loop_(std::move(loop)), op_(op), done_(Napi::Persistent(done)), take_(take)
    {
    }

    void watch()
    {
        auto completed = [](void *data, boxlite_op *) noexcept {
            std::shared_ptr<Op> op = *static_cast<std::shared_ptr<Op> *>(data);
            op->loop_->due(op.get());
            op->completed_ = op;
        };
        auto destroy = [](void *data) { delete static_cast<std::shared_ptr<Op> *>(data); };
        void *self = new std::shared_ptr<Op>(shared_from_this());
        call(loop_->env(), boxlite_op_on_complete, op_.get(), +completed, self, +destroy);
        loop_->add(this);
    }

    void cancel()
    {
        if (op_)
            call(loop_->env(), boxlite_op_cancel, op_.get());
    }

    void deliver() override
    {
        std::shared_ptr<Op> keep = std::move(completed_);
        Napi::Env env = loop_->env();
        loop_->remove(this);
        napi_value error = env.Null(), result = env.Undefined();
        try {
            result = take_(loop_, op_.get());
        } catch (const Napi::Error &failure) {
            error = failure.Value();
        }
        op_.reset();
        run_callback(env, env.Global(), done_.Value(), {error, result});
    }

    // Also one that has completed, but was not delivered, ends here. A reference's destructor does
    // not throw; its Reset() may.
    void abandon() noexcept override
    {
        std::shared_ptr<Op> keep = shared_from_this();
        completed_.reset();
        op_.reset();
        Napi::FunctionReference dropped = std::move(done_);
    }

  private:
    std::shared_ptr<Loop> loop_;
    std::unique_ptr<boxlite_op, Freed<boxlite_op_free>> op_;
    Napi::FunctionReference done_;
    Take take_;
    std::shared_ptr<Op> completed_;
};

} // namespace

Napi::Value wait_for(std::shared_ptr<Loop> loop, boxlite_op *op, Napi::Function done, Take take)
{
    Napi::Env env = loop->env();
    auto waiting = std::make_shared<Op>(std::move(loop), op, done, take);
    waiting->watch();
    std::weak_ptr<Op> weak = waiting;
    return Napi::Function::New(env, [weak](const Napi::CallbackInfo &) {
        if (std::shared_ptr<Op> still = weak.lock())
            still->cancel();
    });
}

Napi::Value take_nothing(const std::shared_ptr<Loop> &loop, boxlite_op *op)
{
    call(loop->env(), boxlite_op_status, op);
    return loop->env().Undefined();
}
