#include "op.h"

#include "error.h"
#include "values.h"

namespace {

using Take = decltype(&take_nothing);

// A count of bytes.
struct Step {
    uint64_t done;
    uint64_t total;
};

// Owned by the callback of its completion, which the library holds; has handed itself on once that was
// called.
class Op : public Pending, public std::enable_shared_from_this<Op> {
  public:
    Op(std::shared_ptr<Loop> loop, boxlite_op *op, Napi::Function done, Take take)
        : loop_(std::move(loop)), op_(op), done_(Napi::Persistent(done)), take_(take)
    {
    }

    // Before `watch`, after which nothing may fail. The callback ends with the operation's handle, which
    // this owns.
    void follow(Napi::Function progress)
    {
        auto stepped = [](void *data, const boxlite_progress *progress) noexcept {
            Op *op = static_cast<Op *>(data);
            Step step{boxlite_progress_bytes_done(progress), boxlite_progress_bytes_total(progress)};
            // Stages have no bytes.
            if (step.total == 0)
                return;
            op->be_due();
            op->step_ = step;
        };
        progress_ = Napi::Persistent(progress);
        call(loop_->env(), boxlite_op_on_progress, op_.get(), +stepped, static_cast<void *>(this),
             boxlite_destroy{});
    }

    void watch()
    {
        auto completed = [](void *data, boxlite_op *) noexcept {
            std::shared_ptr<Op> op = *static_cast<std::shared_ptr<Op> *>(data);
            op->be_due();
            op->completed_ = op;
        };
        auto destroy = [](void *data) { delete static_cast<std::shared_ptr<Op> *>(data); };
        void *self = new std::shared_ptr<Op>(shared_from_this());
        call(loop_->env(), boxlite_op_on_complete, op_.get(), +completed, self, +destroy);
        loop_->add(this);
    }

    void cancel()
    {
        is_cancelled_ = true;
        if (op_)
            call(loop_->env(), boxlite_op_cancel, op_.get());
    }

    void deliver() override
    {
        std::shared_ptr<Op> keep = shared_from_this();
        if (step_)
            deliver_step();
        // Unless the environment has ended meanwhile.
        if (completed_)
            deliver_end();
    }

    // Also one that has completed, but was not delivered, ends here. A reference's destructor does
    // not throw; its Reset() may.
    void abandon() noexcept override
    {
        std::shared_ptr<Op> keep = shared_from_this();
        completed_.reset();
        op_.reset();
        Napi::FunctionReference dropped = std::move(done_);
        Napi::FunctionReference dropped_too = std::move(progress_);
    }

  private:
    // Once for all that comes in one dispatch: what is due twice could be gone at the second time.
    void be_due() noexcept
    {
        if (!step_ && !completed_)
            loop_->due(this);
    }

    void deliver_step()
    {
        Napi::Env env = loop_->env();
        Step step = *std::exchange(step_, std::nullopt);
        if (is_cancelled_)
            return;
        Napi::Object progress = Napi::Object::New(env);
        progress["bytesDone"] = number(env, step.done);
        progress["bytesTotal"] = number(env, step.total);
        run_callback(env, env.Global(), progress_.Value(), {progress});
    }

    void deliver_end()
    {
        completed_.reset();
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

    std::shared_ptr<Loop> loop_;
    std::unique_ptr<boxlite_op, Freed<boxlite_op_free>> op_;
    Napi::FunctionReference done_;
    Take take_;
    Napi::FunctionReference progress_;
    bool is_cancelled_ = false;

    // What callbacks of the library have noted.
    std::optional<Step> step_;
    std::shared_ptr<Op> completed_;
};

} // namespace

Napi::Value wait_for(std::shared_ptr<Loop> loop, boxlite_op *op, Napi::Function done, Take take,
                     Napi::Function progress)
{
    Napi::Env env = loop->env();
    auto waiting = std::make_shared<Op>(std::move(loop), op, done, take);
    if (!progress.IsEmpty())
        waiting->follow(progress);
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
