#!/usr/bin/env python3
"""usage: generate.py HEADER OUTPUT

Writes a C program that calls every function of the header with bad arguments: NULL for each
pointer in turn and for all, text that is not UTF-8, integers at their limits. What a function is to
answer is read from the header too: which pointers may be NULL, and what getters return for NULL.

A parameter that this script cannot make arguments for is an error, so that a new function is
covered or noticed.
"""
import re
import sys

INVALID_UTF8 = {
    "no UTF-8 at all": r'"\xff\xfe"',
    "an overlong form": r'"a\xc0\xaf"',
    "a lone surrogate": r'"\xed\xa0\x80"',
    "a truncated sequence": r'"a\xe2\x82"',
    "beyond the last code point": r'"\xf5\x80\x80\x80"',
}

LIMITS = {
    "int32_t": ["0", "1", "-1", "INT32_MIN", "INT32_MAX"],
    "uint32_t": ["0", "1", "UINT32_MAX"],
    "uint64_t": ["0", "1", "UINT64_MAX"],
    "size_t": ["0", "1", "SIZE_MAX"],
    "bool": ["false", "true"],
}

# Where a value other than the first limit is the ordinary one.
USUAL = {"cpus": "1", "memory_mib": "512", "disk_size_mib": "1024", "stream": "BOXLITE_STDOUT",
         "start_timeout": "1000", "signal": "0"}

TEXT = {"image": '"/no/such/image"', "path": 'getenv("BOXLITE_HOME")', "id_or_name": '"no-such-box"',
        "user": '"root"'}

# Functions that may wait as long as they are told to: the handle with which they do not have to.
WAITING = {
    "boxlite_dispatch": {},
    "boxlite_op_wait": {"op": "f->done"},
    "boxlite_exec_wait": {"exec": "f->ended"},
    "boxlite_run": {},
    # No waiting: options.
    "boxlite_box_options_set_start_timeout_ms": {},
    "boxlite_box_options_set_health_check": {},
}

# They end what the others need.
LAST = ["boxlite_box_stop", "boxlite_runtime_shutdown"]


class Parameter:
    def __init__(self, text, function, doc):
        match = re.fullmatch(r"(.*?)(\w+)", text.strip())
        if not match:
            sys.exit(f"{function}: cannot read the parameter '{text}'")
        self.type, self.name = re.sub(r"\s+", " ", match[1]).strip(), match[2]
        self.type = self.type.replace(" *", "*")
        # The header says so where NULL is fine.
        self.optional = bool(re.search(rf"\b{self.name} may be NULL|unless {self.name} is NULL", doc))
        self.optional_elements = self.optional and "so may each of its elements" in re.sub(r"\s+", " ", doc)


class Function:
    def __init__(self, result, name, parameters, doc):
        self.result, self.name, self.doc = result.replace(" *", "*"), name, doc
        texts = [p for p in parameters.split(",") if p.strip() not in ("", "void")]
        self.parameters = [Parameter(p, name, doc) for p in texts]
        for one, next_one in zip(self.parameters, self.parameters[1:]):
            if one.type in ("const char*const*", "uint8_t*", "const uint8_t*"):
                if next_one.type != "size_t":
                    sys.exit(f"{name}: {one.name} has no length after it")
                one.length, next_one.length_of = next_one, one
        if any("timeout" in p.name for p in self.parameters) and name not in WAITING:
            sys.exit(f"{name}: waits, and generate.py does not know with what it need not")

    @property
    def fallible(self):
        return self.result == "boxlite_status" and any(is_error(p) for p in self.parameters)


def is_error(parameter):
    return parameter.type == "struct boxlite_error**"


def handle(parameter):
    """The handle's type for a parameter that is one."""
    match = re.fullmatch(r"(?:const )?struct boxlite_(\w+)\*", parameter.type)
    return match and match[1]


def out_handle(parameter):
    match = re.fullmatch(r"struct boxlite_(\w+)\*\*", parameter.type)
    return match and match[1] if not is_error(parameter) else None


def read(header):
    """The functions and callback types of the header."""
    text = open(header, encoding="utf-8").read()
    callbacks = {}
    for match in re.finditer(r"typedef void \(\*(boxlite_\w+)\)\(([^)]*)\);", text):
        callbacks[match[1]] = match[2]
    start = text.index('extern "C" {')
    body = text[start:text.index('}  // extern "C"', start)]
    functions, doc = [], []
    # Declarations with the comments in front of them.
    for match in re.finditer(r"^///(.*)$|^([a-z][^;/]*?)\b(boxlite_\w+)\(([^)]*)\);", body, re.M):
        if match[3]:
            joined = re.sub(r"\s+", " ", " ".join(doc))
            result = re.sub(r"\s+", " ", match[2]).strip()
            functions.append(Function(result, match[3], match[4], joined))
            doc = []
        else:
            doc.append(match[1].strip())
    # Nothing overlooked.
    names = set(re.findall(r"\b(boxlite_\w+)\(", re.sub(r"//.*", "", body)))
    if names != {f.name for f in functions}:
        sys.exit(f"not understood: {sorted(names ^ {f.name for f in functions})}")
    return functions, callbacks


class Writer:
    def __init__(self, functions, callbacks):
        self.functions, self.callbacks = functions, callbacks
        self.refs = {f.name.removesuffix("_ref") for f in functions if f.name.endswith("_ref")}
        self.lines = []

    def line(self, text=""):
        self.lines.append(text)

    def usual(self, function, parameter):
        """An argument that is right, as a C expression."""
        p = parameter
        if p.name in WAITING.get(function.name, {}):
            return WAITING[function.name][p.name]
        if is_error(p):
            return "&error"
        if out_handle(p):
            return "&" + p.name
        if handle(p):
            return f"f->{handle(p)}"
        if p.type == "const char*":
            return TEXT.get(p.name, '"text"')
        if p.type == "const char*const*":
            return "(const char *const[]){\"true\", \"x\"}"
        if p.type in ("uint8_t*", "const uint8_t*"):
            return "(uint8_t[16]){0}"
        if p.type in ("size_t*", "int32_t*"):
            return "&" + p.name
        if p.type == "void*" and p.name == "user_data":
            return "slot()"
        if p.type == "boxlite_destroy":
            return "count"
        if p.type in self.callbacks:
            return "ignore_" + p.type
        if p.type in LIMITS:
            if hasattr(p, "length_of"):
                return "2"
            return next((v for k, v in USUAL.items() if p.name.startswith(k)), LIMITS[p.type][0])
        sys.exit(f"{function.name}: no argument is known for '{p.type} {p.name}'")

    def call(self, function, changed, verdict, what):
        """One call in a block of its own; `changed` maps names to expressions."""
        arguments = [changed.get(p.name, self.usual(function, p)) for p in function.parameters]
        self.line("    {")
        self.line(f'        at("{function.name}", "{what}");')
        outs = []
        for p in function.parameters:
            if is_error(p):
                self.line("        struct boxlite_error *error = POISON;")
            elif out_handle(p):
                self.line(f"        struct boxlite_{out_handle(p)} *{p.name} = POISON;")
                outs.append(p)
            elif p.type in ("size_t*", "int32_t*"):
                self.line(f"        {p.type[:-1]} {p.name} = 0x5a5a;")
                outs.append(p)
        if function.name == "boxlite_dispatch":
            self.line("        something_is_due(f);")
        expression = f"{function.name}({', '.join(arguments)})"
        if function.fallible:
            given = changed.get("error", "&error") != "NULL"
            self.line(f"        boxlite_status status = {expression};")
            self.line(f"        check_status(status, {'&error' if given else 'NULL'});")
            if not given:
                self.line("        CHECK(error == POISON);")
            for p in outs:
                poison = "POISON" if out_handle(p) else "0x5a5a"
                # A dispatch that found nothing says how much is left, too.
                unless = " || status == BOXLITE_TIMEOUT" if function.name == "boxlite_dispatch" else ""
                self.line(f"        CHECK(status == BOXLITE_OK{unless} || {p.name} == {poison});")
                if out_handle(p) and changed.get(p.name) != "NULL":
                    self.line(f"        if (status == BOXLITE_OK)")
                    self.line(f"            boxlite_{out_handle(p)}_free({p.name});")
            self.line(f"        {verdict}" if verdict else "        (void)status;")
            if given:
                self.line("        if (status != BOXLITE_OK)")
                self.line("            boxlite_error_free(error);")
        else:
            self.line(verdict.replace("CALL", expression) if verdict else f"        (void){expression};")
            for p in outs:
                self.line(f"        (void){p.name};")
        self.line("    }")

    def default(self, function):
        """What a getter is to return for NULL, as a check."""
        found = re.search(r'(""|-?\b\d+|\b[A-Z_]{4,}|\bfalse)(?: if none [\w, ]+)? for NULL', function.doc)
        found = found or re.search(r"(-?\b\d+|NULL)[^.;]*,? and for NULL", function.doc)
        value = found[1] if found else "0"
        if value == '""':
            return "        CHECK(!strcmp((const char *)CALL, \"\"));"
        return f"        CHECK(CALL == {value});"

    def getter(self, function):
        pointers = [p for p in function.parameters if p.type.endswith("*") or p.type in self.callbacks]
        if function.name.endswith("_free"):
            kind = function.name[:-len("_free")]
            maker = f"{kind}_ref(f->{kind[len('boxlite_'):]})" if kind in self.refs else f"make_{kind[len('boxlite_'):]}(f)"
            self.call(function, {pointers[0].name: "NULL"}, None, "NULL")
            self.call(function, {pointers[0].name: maker}, None, "a handle")
            return
        for p in pointers:
            required = handle(p) or p.type == "const char*"
            self.call(function, {p.name: "NULL"}, self.default(function) if required else None, f"{p.name} is NULL")
        if pointers:
            self.call(function, {p.name: "NULL" for p in pointers}, self.default(function), "all NULL")
        for p in function.parameters:
            if p.type == "const char*":
                for what, text in INVALID_UTF8.items():
                    self.call(function, {p.name: text}, "        CHECK(!CALL);", f"{p.name} is {what}")
        if function.name.endswith("_ref"):
            kind = function.name[:-len("_ref")]
            (p,) = function.parameters
            check = f"        CHECK(CALL == f->{handle(p)});\n        {kind}_free(f->{handle(p)});"
            self.call(function, {}, check, "a handle")
        else:
            self.call(function, {}, None, "as it should be")
            self.integers(function)

    def integers(self, function):
        for p in function.parameters:
            if p.type not in LIMITS:
                continue
            for limit in LIMITS[p.type]:
                if hasattr(p, "length_of"):
                    buffer = p.length_of.name
                    self.call(function, {p.name: limit, buffer: "NULL"}, None, f"{p.name} is {limit} of NULL")
                    if limit in ("0", "1"):
                        self.call(function, {p.name: limit}, None, f"{p.name} is {limit}")
                else:
                    self.call(function, {p.name: limit}, None, f"{p.name} is {limit}")

    def refused(self, name):
        return f'check_refused(status, error, "{name}");'

    def status(self, function):
        required = []
        for p in function.parameters:
            if is_error(p):
                self.call(function, {p.name: "NULL"}, None, "error is NULL")
            elif p.type in self.callbacks or p.type in ("void*", "boxlite_destroy"):
                # Data that nobody destroys is not counted.
                data = {"user_data": "NULL"} if p.type == "boxlite_destroy" else {}
                self.call(function, {p.name: "NULL"} | data, None, f"{p.name} is NULL")
            elif p.type.endswith("*"):
                # With a length it may be NULL for none; `integers` sees to that.
                if p.optional and (p.optional_elements or not hasattr(p, "length")):
                    self.call(function, {p.name: "NULL"}, None, f"{p.name} is NULL")
                else:
                    required.append(p)
                    self.call(function, {p.name: "NULL"}, self.refused(p.name), f"{p.name} is NULL")
        pointers = {p.name: "NULL" for p in function.parameters
                    if p.type.endswith("*") or p.type in self.callbacks or p.type == "boxlite_destroy"}
        if required:
            self.call(function, pointers, "CHECK(status == BOXLITE_INVALID_ARGUMENT);", "all NULL")
        for p in function.parameters:
            if p.type == "const char*":
                for what, text in INVALID_UTF8.items():
                    self.call(function, {p.name: text}, self.refused(p.name), f"{p.name} is {what}")
            if p.type == "const char*const*":
                missing = [] if p.optional_elements else [("NULL", "NULL")]
                for what, text in [*INVALID_UTF8.items(), *missing]:
                    for array in (f'{{{text}, "x"}}', f'{{"true", {text}}}'):
                        self.call(function, {p.name: f"(const char *const[]){array}"},
                                  self.refused(p.name), f"an element of {p.name} is {what}")
        self.call(function, {}, None, "as it should be")
        self.integers(function)

    def write(self):
        self.line("// Generated from the header by generate.py.")
        self.line('#include "fixture.h"')
        for name, parameters in self.callbacks.items():
            if name == "boxlite_destroy":
                continue
            self.line()
            self.line(f"static void ignore_{name}({re.sub(chr(10) + ' *', ' ', parameters)})")
            self.line("{")
            for p in parameters.split(","):
                self.line(f"    (void){re.search(r'(' + chr(92) + r'w+)$', p.strip())[1]};")
            self.line("}")
        order = sorted(self.functions, key=lambda f: LAST.index(f.name) + 1 if f.name in LAST else 0)
        for function in order:
            self.line()
            self.line(f"static void {function.name}_is_called(const fixture *f)")
            self.line("{")
            self.line("    (void)f;")
            # A handle that exists in some places only.
            for kind in {handle(p) for p in function.parameters} & {"event", "progress"}:
                self.line(f"    if (!f->{kind})")
                self.line("        return;")
            if function.fallible:
                self.status(function)
            else:
                self.getter(function)
            self.line("}")
        self.line()
        self.line("int call_everything(const fixture *f)")
        self.line("{")
        for function in order:
            self.line(f"    {function.name}_is_called(f);")
        self.line(f"    return {len(order)};")
        self.line("}")
        return "\n".join(self.lines) + "\n"


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    functions, callbacks = read(sys.argv[1])
    text = Writer(functions, callbacks).write()
    with open(sys.argv[2], "w", encoding="utf-8") as out:
        out.write(text)


main()
