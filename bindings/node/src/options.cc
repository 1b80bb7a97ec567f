#include "options.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <optional>

namespace {

struct Field {
    Napi::Env env;
    std::string name;
    Napi::Value value;
};

// A property of an options object, and how it is set.
template <typename O> struct Setter {
    const char *name;
    void (*set)(const Field &field, O *options);
};

template <auto Set, typename O> void set_text(const Field &field, O *options)
{
    call(field.env, Set, options, to_text(field.value, field.name).c_str());
}

template <typename N> N number(const Field &field)
{
    uint64_t max = std::min<uint64_t>(std::numeric_limits<N>::max(), exact_max);
    return static_cast<N>(to_number(field.value, field.name, max));
}

template <auto Set, typename N, typename O> void set_number(const Field &field, O *options)
{
    call(field.env, Set, options, number<N>(field));
}

template <auto Set, typename O> void set_bool(const Field &field, O *options)
{
    call(field.env, Set, options, to_bool(field.value, field.name));
}

// Calls `use` with each name of an object, and the value that it has.
template <typename F> void each(const Field &field, F use)
{
    if (!field.value.IsObject() || field.value.IsArray())
        throw invalid_argument(field.env, field.name, "not an object");
    Napi::Object object = field.value.As<Napi::Object>();
    Napi::Array names = object.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); i++) {
        Napi::Value value = object.Get(names.Get(i));
        std::string name = to_text(names.Get(i).ToString(), field.name);
        if (!value.IsUndefined())
            use(name, Field{field.env, field.name + "." + name, value});
    }
}

template <auto Add, typename O> void add_each(const Field &field, O *options)
{
    each(field, [&](const std::string &name, const Field &one) {
        call(field.env, Add, options, name.c_str(), to_text(one.value, one.name).c_str());
    });
}

// An array of strings, as C has it.
class Words {
  public:
    Words(Napi::Env env, Napi::Value value, const std::string &name)
    {
        if (!value.IsArray())
            throw invalid_argument(env, name, "not an array of strings");
        Napi::Array array = value.As<Napi::Array>();
        for (uint32_t i = 0; i < array.Length(); i++)
            texts_.push_back(to_text(array.Get(i), name + "[" + std::to_string(i) + "]"));
        for (const std::string &text : texts_)
            pointers_.push_back(text.c_str());
    }

    const char *const *data() const { return pointers_.data(); }
    size_t count() const { return pointers_.size(); }

  private:
    std::vector<std::string> texts_;
    std::vector<const char *> pointers_;
};

template <auto Set, typename O> void set_words(const Field &field, O *options)
{
    Words words(field.env, field.value, field.name);
    call(field.env, Set, options, words.data(), words.count());
}

// Sets what an object has, which is itself a property if `path` is its name.
template <typename O, size_t N>
void set_all(Napi::Env env, Napi::Value value, O *options, const Setter<O> (&setters)[N],
             const std::string &path = "")
{
    if (!value.IsObject())
        throw invalid_argument(env, path.empty() ? "options" : path, "not an object");
    Napi::Object object = value.As<Napi::Object>();
    Napi::Array names = object.GetPropertyNames();
    for (uint32_t i = 0; i < names.Length(); i++) {
        std::string name = names.Get(i).ToString();
        Field field{env, path.empty() ? name : path + "." + name, object.Get(names.Get(i))};
        if (field.value.IsUndefined())
            continue;
        const Setter<O> *setter = setters;
        while (setter != setters + N && name != setter->name)
            setter++;
        if (setter == setters + N)
            throw invalid_argument(env, field.name, "no such option");
        setter->set(field, options);
    }
}

void set_accelerator(const Field &field, boxlite_runtime_options *options)
{
    std::string name = to_text(field.value, field.name);
    int32_t accelerator;
    if (name == "auto")
        accelerator = BOXLITE_ACCELERATOR_AUTO;
    else if (name == "kvm")
        accelerator = BOXLITE_ACCELERATOR_KVM;
    else if (name == "tcg")
        accelerator = BOXLITE_ACCELERATOR_TCG;
    else
        throw invalid_argument(field.env, field.name, "neither 'auto' nor 'kvm' nor 'tcg'");
    call(field.env, boxlite_runtime_options_set_accelerator, options, accelerator);
}

// The machines that wait for boxes. C takes some of this in pairs, of which either may be unset: it
// then is what a box has.
struct Pool {
    uint32_t machines = 0;
    std::optional<uint32_t> cpus;
    std::optional<uint32_t> memory_mib;
    std::optional<std::string> image;
    std::optional<uint64_t> disk_size_mib;
};

const Setter<Pool> of_a_pool[] = {
    {"machines", [](const Field &f, Pool *pool) { pool->machines = number<uint32_t>(f); }},
    {"cpus", [](const Field &f, Pool *pool) { pool->cpus = number<uint32_t>(f); }},
    {"memoryMib", [](const Field &f, Pool *pool) { pool->memory_mib = number<uint32_t>(f); }},
    {"image", [](const Field &f, Pool *pool) { pool->image = to_text(f.value, f.name); }},
    {"diskSizeMib", [](const Field &f, Pool *pool) { pool->disk_size_mib = number<uint64_t>(f); }},
};

void set_pool(const Field &field, boxlite_runtime_options *options)
{
    Pool pool;
    set_all(field.env, field.value, &pool, of_a_pool, field.name);
    call(field.env, boxlite_runtime_options_set_pool_size, options, pool.machines);
    if (pool.cpus || pool.memory_mib)
        call(field.env, boxlite_runtime_options_set_pool_machine, options, pool.cpus.value_or(1),
             pool.memory_mib.value_or(512));
    if (pool.image || pool.disk_size_mib)
        call(field.env, boxlite_runtime_options_set_pool_image, options,
             pool.image.value_or("").c_str(), pool.disk_size_mib.value_or(10240));
}

// C takes all of a health check at once; 0 is what is not set.
struct HealthCheck {
    std::optional<Words> argv;
    uint64_t interval_ms = 0;
    uint64_t timeout_ms = 0;
    uint32_t retries = 0;
    uint64_t start_period_ms = 0;
};

const Setter<HealthCheck> of_a_check[] = {
    {"argv", [](const Field &f, HealthCheck *check) { check->argv.emplace(f.env, f.value, f.name); }},
    {"intervalMs", [](const Field &f, HealthCheck *c) { c->interval_ms = number<uint64_t>(f); }},
    {"timeoutMs", [](const Field &f, HealthCheck *c) { c->timeout_ms = number<uint64_t>(f); }},
    {"retries", [](const Field &f, HealthCheck *c) { c->retries = number<uint32_t>(f); }},
    {"startPeriodMs", [](const Field &f, HealthCheck *c) { c->start_period_ms = number<uint64_t>(f); }},
};

void set_health_check(const Field &field, boxlite_box_options *options)
{
    HealthCheck check;
    set_all(field.env, field.value, &check, of_a_check, field.name);
    if (!check.argv)
        throw invalid_argument(field.env, field.name + ".argv", "not set");
    call(field.env, boxlite_box_options_set_health_check, options, check.argv->data(),
         check.argv->count(), check.interval_ms, check.timeout_ms, check.retries,
         check.start_period_ms);
}

void set_status(const Field &field, boxlite_list_filter *filter)
{
    std::string name = to_text(field.value, field.name);
    int32_t status = BOXLITE_BOX_UNKNOWN;
    // The numbers have no gaps, and what is no status has the name of the first.
    while (name != boxlite_box_status_name(status)) {
        status++;
        if (!std::strcmp(boxlite_box_status_name(status), "unknown"))
            throw invalid_argument(field.env, field.name, "no status of a box");
    }
    call(field.env, boxlite_list_filter_add_status, filter, status);
}

// One of them, or an array of those that are let through.
void set_statuses(const Field &field, boxlite_list_filter *filter)
{
    if (!field.value.IsArray())
        return set_status(field, filter);
    Napi::Array array = field.value.As<Napi::Array>();
    // No status at all would let every box through.
    if (array.Length() == 0)
        throw invalid_argument(field.env, field.name, "has no status in it");
    for (uint32_t i = 0; i < array.Length(); i++)
        set_status({field.env, field.name + "[" + std::to_string(i) + "]", array.Get(i)}, filter);
}

// `true` stands for any value.
void add_wanted_label(const Field &field, const std::string &name, boxlite_list_filter *filter)
{
    if (field.value.IsBoolean() && field.value.As<Napi::Boolean>())
        return call(field.env, boxlite_list_filter_add_label, filter, name.c_str(),
                    static_cast<const char *>(nullptr));
    if (!field.value.IsString())
        throw invalid_argument(field.env, field.name, "neither a string nor true");
    call(field.env, boxlite_list_filter_add_label, filter, name.c_str(),
         to_text(field.value, field.name).c_str());
}

void set_wanted_labels(const Field &field, boxlite_list_filter *filter)
{
    each(field, [&](const std::string &name, const Field &label) {
        add_wanted_label(label, name, filter);
    });
}

void set_main_exit(const Field &field, boxlite_box_options *options)
{
    std::string name = to_text(field.value, field.name);
    int32_t what;
    if (name == "stop")
        what = BOXLITE_MAIN_EXIT_STOP;
    else if (name == "stay")
        what = BOXLITE_MAIN_EXIT_STAY;
    else
        throw invalid_argument(field.env, field.name, "neither 'stop' nor 'stay'");
    call(field.env, boxlite_box_options_set_main_exit, options, what);
}

const Setter<boxlite_runtime_options> of_a_runtime[] = {
    {"home", set_text<boxlite_runtime_options_set_home>},
    {"libexec", set_text<boxlite_runtime_options_set_libexec>},
    {"accelerator", set_accelerator},
    {"templateAgeS", set_number<boxlite_runtime_options_set_template_age_s, uint64_t>},
    {"templatesMib", set_number<boxlite_runtime_options_set_templates_mib, uint64_t>},
    {"diskTemplates", set_bool<boxlite_runtime_options_set_disk_templates>},
    {"pool", set_pool},
};

const Setter<boxlite_box_options> of_a_box[] = {
    {"name", set_text<boxlite_box_options_set_name>},
    {"cpus", set_number<boxlite_box_options_set_cpus, uint32_t>},
    {"memoryMib", set_number<boxlite_box_options_set_memory_mib, uint32_t>},
    {"diskSizeMib", set_number<boxlite_box_options_set_disk_size_mib, uint64_t>},
    {"labels", add_each<boxlite_box_options_add_label>},
    {"env", add_each<boxlite_box_options_add_env>},
    {"workingDir", set_text<boxlite_box_options_set_working_dir>},
    {"user", set_text<boxlite_box_options_set_user>},
    {"entrypoint", set_words<boxlite_box_options_set_entrypoint>},
    {"cmd", set_words<boxlite_box_options_set_cmd>},
    {"startTimeoutMs", set_number<boxlite_box_options_set_start_timeout_ms, uint32_t>},
    {"coldBoot", set_bool<boxlite_box_options_set_cold_boot>},
    {"autoRemove", set_bool<boxlite_box_options_set_auto_remove>},
    {"idleStopS", set_number<boxlite_box_options_set_idle_stop_s, uint64_t>},
    {"healthCheck", set_health_check},
    {"main", set_words<boxlite_box_options_set_main>},
    {"mainExit", set_main_exit},
    {"detach", set_bool<boxlite_box_options_set_detach>},
    {"spoolBytes", set_number<boxlite_box_options_set_spool_bytes, uint64_t>},
};

const Setter<boxlite_exec_options> of_an_exec[] = {
    {"env", add_each<boxlite_exec_options_add_env>},
    {"workingDir", set_text<boxlite_exec_options_set_working_dir>},
    {"user", set_text<boxlite_exec_options_set_user>},
    {"stdin", set_bool<boxlite_exec_options_set_stdin>},
    {"detach", set_bool<boxlite_exec_options_set_detach>},
};

// null is no name, and not the one that the box had.
void set_new_name(const Field &field, boxlite_import_options *options)
{
    if (field.value.IsNull())
        return call(field.env, boxlite_import_options_set_name, options,
                    static_cast<const char *>(nullptr));
    set_text<boxlite_import_options_set_name>(field, options);
}

const Setter<boxlite_export_options> of_an_export[] = {
    {"snapshot", set_text<boxlite_export_options_set_snapshot>},
    {"withSnapshots", set_bool<boxlite_export_options_set_with_snapshots>},
};

const Setter<boxlite_import_options> of_an_import[] = {
    {"name", set_new_name},
    {"trusted", set_bool<boxlite_import_options_set_trusted>},
};

const Setter<boxlite_list_filter> of_a_list[] = {
    {"status", set_statuses},
    {"labels", set_wanted_labels},
    {"namePrefix", set_text<boxlite_list_filter_set_name_prefix>},
    {"image", set_text<boxlite_list_filter_set_image>},
};

void set_snapshot(const Field &field, CloneOptions *options)
{
    options->snapshot = to_text(field.value, field.name);
}

std::optional<std::string> text_or_none(Napi::Value value, const std::string &name)
{
    if (value.IsUndefined() || value.IsNull())
        return std::nullopt;
    return to_text(value, name);
}

void set_name(const Field &field, CloneOptions *options)
{
    options->names.emplace(1, text_or_none(field.value, field.name));
}

void set_names(const Field &field, CloneOptions *options)
{
    if (!field.value.IsArray())
        throw invalid_argument(field.env, field.name, "not an array");
    Napi::Array array = field.value.As<Napi::Array>();
    // As C does, but before: an array of nothing but holes may have any length.
    if (array.Length() > 1000)
        throw invalid_argument(field.env, field.name, "more than 1000");
    options->names.emplace();
    for (uint32_t i = 0; i < array.Length(); i++) {
        std::string name = field.name + "[" + std::to_string(i) + "]";
        options->names->push_back(text_or_none(array.Get(i), name));
    }
}

const Setter<CloneOptions> of_a_clone[] = {
    {"snapshot", set_snapshot},
    {"name", set_name},
};

const Setter<CloneOptions> of_clones[] = {
    {"snapshot", set_snapshot},
    {"names", set_names},
    {"count", [](const Field &f, CloneOptions *o) { o->count = number<uint32_t>(f); }},
};

void set_capacity(const Field &field, uint32_t *capacity)
{
    *capacity = number<uint32_t>(field);
    // To C it is what is not set.
    if (*capacity == 0)
        throw invalid_argument(field.env, field.name, "0 is not within 1 to 65536");
}

const Setter<uint32_t> of_events[] = {
    {"capacity", set_capacity},
};

} // namespace

std::string to_text(Napi::Value value, const std::string &name)
{
    if (!value.IsString())
        throw invalid_argument(value.Env(), name, "not a string");
    std::string text = value.As<Napi::String>();
    // C would see only what is before it.
    if (text.find('\0') != std::string::npos)
        throw invalid_argument(value.Env(), name, "has a NUL in it");
    return text;
}

uint64_t to_number(Napi::Value value, const std::string &name, uint64_t max)
{
    double number = value.IsNumber() ? value.As<Napi::Number>().DoubleValue() : -1;
    if (!(number >= 0 && number <= static_cast<double>(max)) || std::trunc(number) != number)
        throw invalid_argument(value.Env(), name,
                               "not a whole number from 0 to " + std::to_string(max));
    return static_cast<uint64_t>(number);
}

bool to_bool(Napi::Value value, const std::string &name)
{
    if (!value.IsBoolean())
        throw invalid_argument(value.Env(), name, "neither true nor false");
    return value.As<Napi::Boolean>();
}

Napi::Function to_function(Napi::Value value, const std::string &name)
{
    if (value.IsUndefined())
        return Napi::Function();
    if (!value.IsFunction())
        throw invalid_argument(value.Env(), name, "not a function");
    return value.As<Napi::Function>();
}

int32_t disk_format(Napi::Value value)
{
    std::string format = to_text(value, "format");
    if (format == "raw")
        return BOXLITE_DISK_RAW;
    if (format == "qcow2")
        return BOXLITE_DISK_QCOW2;
    throw invalid_argument(value.Env(), "format", "neither 'raw' nor 'qcow2'");
}

RuntimeOptions runtime_options(Napi::Env env, Napi::Value object)
{
    boxlite_runtime_options *options;
    call(env, boxlite_runtime_options_new, &options);
    RuntimeOptions owned(options);
    set_all(env, object, options, of_a_runtime);
    return owned;
}

BoxOptions box_options(Napi::Env env, Napi::Value image, Napi::Value object)
{
    boxlite_box_options *options;
    call(env, boxlite_box_options_new, to_text(image, "image").c_str(), &options);
    BoxOptions owned(options);
    set_all(env, object, options, of_a_box);
    return owned;
}

BoxOptions disk_box_options(Napi::Env env, Napi::Value path, Napi::Value format, Napi::Value object)
{
    boxlite_box_options *options;
    call(env, boxlite_box_options_new_from_disk, to_text(path, "path").c_str(), disk_format(format),
         &options);
    BoxOptions owned(options);
    set_all(env, object, options, of_a_box);
    return owned;
}

ExecOptions exec_options(Napi::Env env, Napi::Value argv, Napi::Value object)
{
    boxlite_exec_options *options;
    Words words(env, argv, "argv");
    call(env, boxlite_exec_options_new, words.data(), words.count(), &options);
    ExecOptions owned(options);
    set_all(env, object, options, of_an_exec);
    return owned;
}

ExportOptions export_options(Napi::Env env, Napi::Value object)
{
    boxlite_export_options *options;
    call(env, boxlite_export_options_new, &options);
    ExportOptions owned(options);
    set_all(env, object, options, of_an_export);
    return owned;
}

ImportOptions import_options(Napi::Env env, Napi::Value object)
{
    boxlite_import_options *options;
    call(env, boxlite_import_options_new, &options);
    ImportOptions owned(options);
    set_all(env, object, options, of_an_import);
    return owned;
}

ListFilter list_filter(Napi::Env env, Napi::Value object)
{
    boxlite_list_filter *filter;
    call(env, boxlite_list_filter_new, &filter);
    ListFilter owned(filter);
    set_all(env, object, filter, of_a_list);
    return owned;
}

CloneOptions clone_options(Napi::Env env, Napi::Value object)
{
    CloneOptions options;
    set_all(env, object, &options, of_a_clone);
    if (!options.names)
        options.count = 1;
    return options;
}

CloneOptions clones_options(Napi::Env env, Napi::Value object)
{
    CloneOptions options;
    set_all(env, object, &options, of_clones);
    if (options.names && options.count)
        throw invalid_argument(env, "count", "set together with names");
    return options;
}

uint32_t event_capacity(Napi::Env env, Napi::Value object)
{
    uint32_t capacity = 1024;
    set_all(env, object, &capacity, of_events);
    return capacity;
}
