package boxlite

// #include <boxlite.h>
import "C"

import (
	"cmp"
	"math"
	"strings"
	"time"
)

// An Accelerator is what executes the guests' instructions.
type Accelerator string

const (
	// AcceleratorAuto is KVM where it is proven to work, else TCG.
	AcceleratorAuto Accelerator = "auto"
	// AcceleratorKVM is KVM or an error, ErrUnsupportedEngine: never a silent fall-back.
	AcceleratorKVM Accelerator = "kvm"
	// AcceleratorTCG is QEMU's translator: it works everywhere, and is no security boundary.
	AcceleratorTCG Accelerator = "tcg"
)

// What a box has unless told otherwise.
const (
	defaultCPUs      = 1
	defaultMemoryMiB = 512
	defaultDiskMiB   = 10 << 10
)

// Options say how a home is to be used. The zero value has every default in place.
type Options struct {
	// Home is the directory for boxes and images, made if it does not exist. Unless set:
	// $BOXLITE_HOME, else ~/.boxlite.
	Home string
	// Libexec is the directory of the helper programs, the guest kernel and the initramfs. Unless
	// set: $BOXLITE_LIBEXEC, else beside the library.
	Libexec string
	// Accelerator is what may execute the guests' instructions. Unless set: $BOXLITE_ACCELERATOR,
	// else AcceleratorAuto.
	Accelerator Accelerator
	// TemplateAge is how old a machine template may become before it is made anew, in whole seconds
	// from 1 s; a day unless set. Boxes restored from one template share what their kernel drew when
	// it booted.
	TemplateAge time.Duration
	// TemplatesMiB is the space that machine templates may take in the home, in MiB; 2048 unless
	// set. Those that were used longest ago are removed first, those that boxes run from never.
	TemplatesMiB uint64
	// NoDiskTemplates tells that no template is to be made with an image's disk mounted. Unless set,
	// the first start of an image makes one, in half a second and some 60 MiB of that space; each
	// later first start of a box of the same image, disk size, CPUs and memory is faster by nearly
	// half.
	NoDiskTemplates bool
	// Pool is the machines that wait for boxes; none unless set.
	Pool Pool
}

// A Pool is machines that wait for boxes. A box that gets one starts in a fraction of the time; a box
// with other CPUs or memory, with ColdBoot, or that comes when none waits, starts as if there were
// none. They are made while nothing is being started, one at a time, and end with the runtime and
// with [Runtime.Shutdown].
type Pool struct {
	// Machines is how many wait, up to 64; none unless set. Each takes some 100 MiB of memory, and no
	// processor.
	Machines uint32
	// CPUs is the number of virtual CPUs that each has, 1 to 64; 1 unless set, as for a box.
	CPUs uint32
	// MemoryMiB is the memory that each has, in MiB, 128 to 1048576; 512 unless set, as for a box.
	MemoryMiB uint32
	// Image is the image that they are for, as in BoxOptions; any unless set. They have its disk
	// mounted: a box of this image and of DiskMiB gets one at its first start, in half the time, and
	// no other does. An image that cannot be had is no error: no machine waits.
	Image string
	// DiskMiB is the size of the disk of the boxes of Image, in MiB, 16 to 16777216; 10 GiB unless
	// set, as for a box. Without an Image it is refused.
	DiskMiB uint64
}

// BoxOptions say how a box is to be made. An image is enough.
type BoxOptions struct {
	// Image is a directory with an OCI layout, or a file that is an OCI or `docker save` archive;
	// "PATH:TAG" chooses among several images.
	Image string
	// Disk is a file with an ext4 file system, without partitions, that the box's disk is a copy of, instead
	// of an image; DiskFormat says what it is in. The box has no environment, working directory, user or
	// command then but those that are set, and its disk is as large as the file's unless DiskMiB is larger.
	Disk       string
	DiskFormat DiskFormat
	// Name is the box's name, unique in its home: 1 to 128 of [A-Za-z0-9_.-], first a letter or
	// digit. None unless set.
	Name string
	// CPUs is the number of virtual CPUs, 1 to 64; 1 unless set.
	CPUs uint32
	// MemoryMiB is the memory in MiB, at least 128; 512 unless set.
	MemoryMiB uint32
	// DiskMiB is the disk's size in MiB, 10 GiB unless set. The disk takes only the space that is
	// written.
	DiskMiB uint64
	// Env has environment variables for the box's commands, "NAME=value", over the image's.
	Env []string
	// Dir is the working directory of the box's commands, an absolute path; the image's unless set.
	Dir string
	// User is the user of the box's commands, "user" or "user:group", by names or numbers; the
	// image's unless set.
	User string
	// Entrypoint stands in place of the image's, whose Cmd then no longer counts. nil leaves the
	// image's; empty is none.
	Entrypoint []string
	// Cmd stands in place of the image's cmd. nil leaves the image's; empty is none.
	Cmd []string
	// StartTimeout is how long a start may take until the guest answers, in whole milliseconds from
	// 100 ms to an hour; a minute unless set.
	StartTimeout time.Duration
	// ColdBoot tells that the box's kernel is to be booted at each start, instead of being restored
	// from a template: that takes several times longer, and no other box shares what it draws then.
	ColdBoot bool
	// AutoRemove tells that the box is to be removed, with its disk, when it has stopped as it was
	// meant to. One that failed is kept, and so is one whose program died.
	AutoRemove bool
	// IdleStop is the time without a command running in it after which the box is stopped, in whole
	// seconds from 1 s to a year; never unless set. Its main process counts as a command, its health
	// check does not, nor does time in which it is paused. Info.Reason then tells that this was why.
	IdleStop time.Duration
	// HealthCheck is a command that says whether the box is well; none unless set.
	HealthCheck *HealthCheck
	// Main is a command that is started with the box; none unless set.
	Main *Main
	// Detach tells that the box outlives this program: it runs until it is stopped, by any program,
	// or stops by itself. [Runtime.Shutdown] and [Runtime.Close] leave it running.
	Detach bool
	// Labels are what the box is listed with and found by, at most 64: names of 1 to 63 of
	// [A-Za-z0-9._/-], with values that may be empty, of at most 4096 bytes. See [ListFilter].
	Labels map[string]string
	// SpoolBytes is how many of the last bytes are kept of each output of the main process and of
	// each detached command, 4 KiB to 1 GiB; 1 MiB unless set.
	SpoolBytes uint64
}

// A Command says what is to be run in a box.
type Command struct {
	// Args are the program and its arguments. A program without a slash is searched in the PATH of
	// its environment. Without any, the box's own command is run: its entrypoint and cmd.
	Args []string
	// Env has environment variables, "NAME=value", over the box's and the image's.
	Env []string
	// Dir is the working directory, an absolute path; the box's unless set.
	Dir string
	// User is "user" or "user:group", by names or numbers; the box's unless set.
	User string
	// Stdin tells whether the command gets a stdin to write to. Without one it reads end of file.
	Stdin bool
	// Detach tells that the command outlives this program, for as long as its box does. The last
	// bytes of its output are kept, and it never waits for a reader: a slow one gets a [GapError].
	// Its stdin is closed with the Exec. Any program may follow it: see [Box.Attach].
	Detach bool
}

// setter collects options: after the first error, nothing more is set.
type setter struct {
	memory
}

func (s *setter) set(f func(e **C.boxlite_error) C.boxlite_status) {
	if s.err == nil {
		s.err = call(f)
	}
}

// text sets an option that is a string, unless it is empty.
func (s *setter) text(field, value string, f func(text *C.char, e **C.boxlite_error) C.boxlite_status) {
	if value == "" {
		return
	}
	text := s.memory.text(field, value)
	s.set(func(e **C.boxlite_error) C.boxlite_status { return f(text, e) })
}

// env sets environment variables.
func (s *setter) env(env []string, f func(name, value *C.char, e **C.boxlite_error) C.boxlite_status) {
	for _, variable := range env {
		name, value, found := strings.Cut(variable, "=")
		if !found && s.err == nil {
			s.err = invalid("Env", "must be NAME=value, not '"+variable+"'")
		}
		cName, cValue := s.memory.text("Env", name), s.memory.text("Env", value)
		s.set(func(e **C.boxlite_error) C.boxlite_status { return f(cName, cValue, e) })
	}
}

// list sets an option that is a list of strings, unless it is nil.
func (s *setter) list(field string, list []string, f func(argv **C.char, argc C.size_t, e **C.boxlite_error) C.boxlite_status) {
	if list == nil {
		return
	}
	argv, argc := s.memory.list(field, list)
	s.set(func(e **C.boxlite_error) C.boxlite_status { return f(argv, argc, e) })
}

// milliseconds converts a duration, rounding up.
func milliseconds(field string, d time.Duration) (C.uint32_t, error) {
	ms := d / time.Millisecond
	if d%time.Millisecond > 0 {
		ms++
	}
	if ms < 0 || ms > math.MaxUint32 {
		return 0, invalid(field, "must be from 0 to 2^32 - 1 milliseconds, not "+d.String())
	}
	return C.uint32_t(ms), nil
}

// seconds converts a duration, rounding up.
func seconds(field string, d time.Duration) (C.uint64_t, error) {
	if d < 0 {
		return 0, invalid(field, "must not be negative, and is "+d.String())
	}
	s := d / time.Second
	if d%time.Second > 0 {
		s++
	}
	return C.uint64_t(s), nil
}

// c makes the options that C knows, for f to use.
func (o *Options) c(f func(*C.boxlite_runtime_options) error) error {
	var s setter
	defer s.free()
	var options *C.boxlite_runtime_options
	s.set(func(e **C.boxlite_error) C.boxlite_status { return C.boxlite_runtime_options_new(&options, e) })
	defer func() { C.boxlite_runtime_options_free(options) }()

	s.text("Home", o.Home, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_runtime_options_set_home(options, text, e)
	})
	s.text("Libexec", o.Libexec, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_runtime_options_set_libexec(options, text, e)
	})
	if o.Accelerator != "" {
		number, known := map[Accelerator]C.int32_t{
			AcceleratorAuto: C.BOXLITE_ACCELERATOR_AUTO,
			AcceleratorKVM:  C.BOXLITE_ACCELERATOR_KVM,
			AcceleratorTCG:  C.BOXLITE_ACCELERATOR_TCG,
		}[o.Accelerator]
		if !known {
			number = -1 // which is refused
		}
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_runtime_options_set_accelerator(options, number, e)
		})
	}
	if o.TemplateAge != 0 {
		age, err := seconds("TemplateAge", o.TemplateAge)
		if err != nil {
			return err
		}
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_runtime_options_set_template_age_s(options, age, e)
		})
	}
	if o.TemplatesMiB != 0 {
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_runtime_options_set_templates_mib(options, C.uint64_t(o.TemplatesMiB), e)
		})
	}
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_runtime_options_set_disk_templates(options, C.bool(!o.NoDiskTemplates), e)
	})
	o.Pool.set(&s, options)
	if s.err != nil {
		return s.err
	}
	return f(options)
}

// set sets the options of the pool. C takes some of them in pairs, of which either may be unset.
func (p *Pool) set(s *setter, options *C.boxlite_runtime_options) {
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_runtime_options_set_pool_size(options, C.uint32_t(p.Machines), e)
	})
	if p.CPUs != 0 || p.MemoryMiB != 0 {
		cpus, memory := cmp.Or(p.CPUs, defaultCPUs), cmp.Or(p.MemoryMiB, defaultMemoryMiB)
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_runtime_options_set_pool_machine(options, C.uint32_t(cpus), C.uint32_t(memory), e)
		})
	}
	if p.Image != "" || p.DiskMiB != 0 {
		image, disk := s.memory.text("Image", p.Image), cmp.Or(p.DiskMiB, defaultDiskMiB)
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_runtime_options_set_pool_image(options, image, C.uint64_t(disk), e)
		})
	}
}

// c makes the options that C knows, for f to use.
func (o *BoxOptions) c(f func(*C.boxlite_box_options) error) error {
	var s setter
	defer s.free()
	var options *C.boxlite_box_options
	image, disk := s.memory.text("Image", o.Image), s.memory.text("Disk", o.Disk)
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		if o.Disk != "" && o.Image == "" {
			return C.boxlite_box_options_new_from_disk(disk, C.int32_t(o.DiskFormat), &options, e)
		}
		return C.boxlite_box_options_new(image, &options, e)
	})
	defer func() { C.boxlite_box_options_free(options) }()

	s.text("Name", o.Name, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_name(options, text, e)
	})
	if o.CPUs != 0 {
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_options_set_cpus(options, C.uint32_t(o.CPUs), e)
		})
	}
	if o.MemoryMiB != 0 {
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_options_set_memory_mib(options, C.uint32_t(o.MemoryMiB), e)
		})
	}
	if o.DiskMiB != 0 {
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_options_set_disk_size_mib(options, C.uint64_t(o.DiskMiB), e)
		})
	}
	s.env(o.Env, func(name, value *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_add_env(options, name, value, e)
	})
	s.text("Dir", o.Dir, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_working_dir(options, text, e)
	})
	s.text("User", o.User, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_user(options, text, e)
	})
	s.list("Entrypoint", o.Entrypoint, func(argv **C.char, argc C.size_t, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_entrypoint(options, argv, argc, e)
	})
	s.list("Cmd", o.Cmd, func(argv **C.char, argc C.size_t, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_cmd(options, argv, argc, e)
	})
	if o.StartTimeout != 0 {
		ms, err := milliseconds("StartTimeout", o.StartTimeout)
		if err != nil {
			return err
		}
		s.set(func(e **C.boxlite_error) C.boxlite_status {
			return C.boxlite_box_options_set_start_timeout_ms(options, ms, e)
		})
	}
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_box_options_set_cold_boot(options, C.bool(o.ColdBoot), e)
	})
	o.setLife(&s, options)
	o.setLabels(&s, options)
	if s.err != nil {
		return s.err
	}
	return f(options)
}

// c makes the options that C knows, for f to use.
func (o *Command) c(f func(*C.boxlite_exec_options) error) error {
	var s setter
	defer s.free()
	var options *C.boxlite_exec_options
	argv, argc := s.memory.list("Args", o.Args)
	s.set(func(e **C.boxlite_error) C.boxlite_status { return C.boxlite_exec_options_new(argv, argc, &options, e) })
	defer func() { C.boxlite_exec_options_free(options) }()

	s.env(o.Env, func(name, value *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_exec_options_add_env(options, name, value, e)
	})
	s.text("Dir", o.Dir, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_exec_options_set_working_dir(options, text, e)
	})
	s.text("User", o.User, func(text *C.char, e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_exec_options_set_user(options, text, e)
	})
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_exec_options_set_stdin(options, C.bool(o.Stdin), e)
	})
	s.set(func(e **C.boxlite_error) C.boxlite_status {
		return C.boxlite_exec_options_set_detach(options, C.bool(o.Detach), e)
	})
	if s.err != nil {
		return s.err
	}
	return f(options)
}
