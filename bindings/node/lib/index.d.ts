/**
 * Runs OCI images in boxes: real virtual machines. The binding of libboxlite, whose header
 * `boxlite.h` says more about each operation.
 *
 * Errors: what the library refuses is a {@link BoxliteError}. It comes as a rejection, or is thrown
 * by what returns no promise. An option that is not known is refused too.
 *
 * Cancelling: a `signal` that is aborted cancels its operation, whose promise is then rejected with
 * an `AbortError` (code `'ABORT_ERR'`, the reason as its cause). An operation that was faster keeps
 * its result. A box that was half made or half started is undone; a stop or a removal that has begun
 * goes on.
 *
 * Threads: every worker loads the module for itself; objects stay in the thread that made them.
 */

import { Readable, Writable } from 'node:stream';

/** The version of the library that is running, such as "0.1.0". */
export const version: string;

/** An operation that can be cancelled. */
export interface Abortable {
  signal?: AbortSignal;
}

/** Environment variables. Those that are undefined are not set. */
export type Environment = Record<string, string | undefined>;

export interface RuntimeOptions {
  /** The home directory, made if it does not exist. Default: $BOXLITE_HOME, else ~/.boxlite. */
  home?: string;
  /** The directory of the helper programs. Default: $BOXLITE_LIBEXEC, else beside the library. */
  libexec?: string;
  /** What executes the guests' instructions. Default: $BOXLITE_ACCELERATOR, else 'auto'. */
  accelerator?: 'auto' | 'kvm' | 'tcg';
  /**
   * How old a machine template may become before it is made anew, in seconds, 1 or more. Boxes
   * restored from one template share what their kernel drew when it booted. Default: 86400, a day.
   */
  templateAgeS?: number;
  /**
   * The space that machine templates may take in the home, in MiB. Those that were used longest ago
   * are removed first, those that boxes run from never. Default: 2048.
   */
  templatesMib?: number;
  /**
   * Whether the first start of an image makes a template with its disk mounted, in half a second and
   * some 60 MiB of that space. Each later first start of a box of the same image, disk size, CPUs and
   * memory is then faster by nearly half. Default: true.
   */
  diskTemplates?: boolean;
  /** The machines that wait for boxes. Default: none. */
  pool?: PoolOptions;
}

/**
 * Machines that wait for boxes. A box that gets one starts in a fraction of the time; a box with other
 * CPUs or memory, with `coldBoot`, or that comes when none waits, starts as if there were none. They
 * are made while nothing is being started, one at a time, and end with the runtime and with
 * {@link Runtime.shutdown}.
 */
export interface PoolOptions {
  /** How many wait, 0 to 64. Each takes some 100 MiB of memory, and no processor. Default: 0. */
  machines?: number;
  /** Virtual CPUs of each, 1 to 64. Default: 1, as a box. */
  cpus?: number;
  /** Memory of each in MiB, 128 to 1048576. Default: 512, as a box. */
  memoryMib?: number;
  /**
   * The image that they are for, as {@link Runtime.create} takes it. They have its disk mounted: a box
   * of this image and of `diskSizeMib` gets one at its first start, in half the time, and no other
   * does. An image that cannot be had is no error: no machine waits. Default: any image.
   */
  image?: string;
  /**
   * The size of the disk of the boxes of `image` in MiB, 16 to 16777216. Refused without an image.
   * Default: 10240, as a box.
   */
  diskSizeMib?: number;
}

/** How a box is to be made. Defaults are the image's. */
export interface BoxOptions {
  /** Unique in its home: 1 to 128 of [A-Za-z0-9_.-], first a letter or digit. */
  name?: string;
  /**
   * What the box is listed with and found by, see {@link Runtime.list}: at most 64. A name is 1 to 63 of
   * [A-Za-z0-9._/-], a value at most 4096 bytes. Those that are undefined are not set.
   */
  labels?: Record<string, string | undefined>;
  /** Virtual CPUs, 1 to 64. Default: 1. */
  cpus?: number;
  /** Memory in MiB, at least 128. Default: 512. */
  memoryMib?: number;
  /** The disk's size in MiB; it takes only the space that is written. Default: 10240. */
  diskSizeMib?: number;
  /** Over the image's environment. */
  env?: Environment;
  /** An absolute path. */
  workingDir?: string;
  /** "user" or "user:group", by names or numbers. */
  user?: string;
  entrypoint?: readonly string[];
  cmd?: readonly string[];
  /** How long a start may take until the guest answers, in milliseconds. Default: 60000. */
  startTimeoutMs?: number;
  /**
   * Whether the box's kernel is booted at each start, instead of being restored from a template: that
   * takes several times longer, and no other box shares what it draws then. Default: false.
   */
  coldBoot?: boolean;
  /**
   * Whether the box is removed, with its disk, when it has stopped as it was meant to. One that failed
   * is kept, and so is one whose program died. Default: false.
   */
  autoRemove?: boolean;
  /**
   * After how many seconds without a command running in it the box is stopped, 1 to 31536000. Its main
   * process counts as a command, its health check does not, nor does time in which it is paused.
   * {@link BoxInfo.error} then tells that this was why. Default: never.
   */
  idleStopS?: number;
  /** A command that says whether the box is well. Default: none. */
  healthCheck?: HealthCheck;
  /**
   * A command that is started with the box, its main process; an empty one is the box's own command.
   * It reads end of file on stdin. Its output is kept: see {@link Box.attachMain}. The start of the box
   * fails with BOXLITE_EXECUTION if it cannot be run. Default: none.
   */
  main?: readonly string[];
  /** What happens to the box when its main process has ended: it stops, or it runs on. Default: 'stop'. */
  mainExit?: 'stop' | 'stay';
  /**
   * Whether the box outlives this program: it runs until it is stopped, by any program, or stops by
   * itself. {@link Runtime.shutdown} and {@link Runtime.close} leave it running. Default: false.
   */
  detach?: boolean;
  /**
   * How many of the last bytes are kept of each output of the main process and of each detached
   * command, 4096 to 1073741824. Default: 1048576.
   */
  spoolBytes?: number;
}

/**
 * A command that says by its exit code whether its box is well: 0 if it is. It runs with the
 * environment, user and directory of the box's commands; what it writes is dropped.
 */
export interface HealthCheck {
  /** The program and its arguments. */
  argv: readonly string[];
  /**
   * From the start of the box, and from the end of the check before, to a check: 100 to 86400000
   * milliseconds. Default: 30000.
   */
  intervalMs?: number;
  /** How long a check may take before it has failed, 100 to 86400000 milliseconds. Default: 30000. */
  timeoutMs?: number;
  /** How many checks in a row have to fail for the box to be unhealthy, 1 to 1000. Default: 3. */
  retries?: number;
  /**
   * How long after the start of the box failures do not count, until a check has succeeded, up to
   * 86400000 milliseconds. Default: 0.
   */
  startPeriodMs?: number;
}

/** How a command is to be run. Defaults are the box's. */
export interface CommandOptions {
  /** Over the box's environment. */
  env?: Environment;
  /** An absolute path. */
  workingDir?: string;
  /** "user" or "user:group", by names or numbers. */
  user?: string;
}

export interface ExecOptions extends CommandOptions {
  /** Whether there is a stdin to write to; else the command reads end of file. Default: false. */
  stdin?: boolean;
  /**
   * Whether the command outlives this program, for as long as its box does. The last bytes of its
   * output are kept, and it never waits for a reader: a slow one finds gaps, see {@link OutputStream}.
   * Its stdin ends with this object. Any program may follow it: {@link Box.attach}. A `signal` then
   * cancels its start only. Default: false.
   */
  detach?: boolean;
}

/** From where the output of a command is followed, in bytes since its beginning. */
export interface AttachOptions {
  /** Default: 0. */
  stdoutFrom?: number;
  /** Default: 0. */
  stderrFrom?: number;
}

export interface RunOptions extends CommandOptions {
  /** How many bytes of each output are kept. Default: 1 MiB. */
  limit?: number;
}

export type BoxStatus =
  | 'unknown'
  | 'configured'
  | 'starting'
  | 'running'
  | 'stopping'
  | 'stopped'
  | 'paused'
  | 'failed';

/** Which boxes are to be listed: those that fit everything that is set. */
export interface ListFilter {
  /** Boxes of this status, or of any of these. */
  status?: BoxStatus | readonly BoxStatus[];
  /** Boxes that have all of these labels, with these values; `true` stands for any value. */
  labels?: Record<string, string | true | undefined>;
  /** Boxes whose name begins so. */
  namePrefix?: string;
  /** Boxes of this image, written as it was when they were made. */
  image?: string;
}

/** What a box is and how it was when it was asked. */
export interface BoxInfo {
  id: string;
  name: string | null;
  /** As it was given when the box was made. */
  image: string;
  createdAt: Date;
  /**
   * 'unknown' if what is stored of the box cannot be read: `error` says why, what else is not known is 0,
   * empty or null, and all that can be done with the box is to remove it.
   */
  status: BoxStatus;
  /** Why the box failed or ended, or cannot be read. */
  error: string | null;
  labels: Record<string, string>;
  /** What executes its instructions; null if it does not run. */
  accelerator: 'kvm' | 'tcg' | null;
  /**
   * How its machine came to run: its kernel booted; it was restored from a machine template; or it
   * was restored beforehand, and waited for a box. null if it does not run, or if another program runs
   * it and this one has not used it yet.
   */
  boot: 'cold' | 'restored' | 'pooled' | null;
  cpus: number;
  memoryMib: number;
  diskSizeMib: number;
  /** The box's supervisor; null if it does not run. */
  pid: number | null;
  /**
   * What the health checks say, in the box's last run: none has succeeded yet, and not enough have
   * failed; the last one succeeded, or not enough have failed since; or as many in a row have failed
   * as it takes. null if there are none, or the box was never started.
   */
  health: 'starting' | 'healthy' | 'unhealthy' | null;
  /** How many health checks in a row have failed. */
  healthFailures: number;
  /** When the last health check ended. */
  lastCheck: Date | null;
  /** How the main process is, or was in the box's last run; null if there is none, or it was not started. */
  main: MainInfo | null;
  /** Whether the box outlives the program that starts it. */
  detach: boolean;
  /** Whether the box is removed when it has stopped. */
  autoRemove: boolean;
  /** What the last start by this program went through. */
  stages: { name: string; microseconds: number }[];
}

/** How a box's main process is. */
export interface MainInfo {
  /** It runs; it has ended; or its box was cut off before its end was seen. */
  status: 'running' | 'exited' | 'lost';
  /** The exit code, or 128 + n if signal n ended it; null unless it has ended. */
  code: number | null;
  /** The signal that ended it, such as 'SIGKILL'. */
  signal: string | null;
}

/** A command of a box, as it was when the commands were listed. */
export interface ExecInfo {
  /** The number for {@link Box.attach}, unique in a run of the box. */
  id: number;
  /** The command and its arguments: as many as fit into 512 bytes. */
  argv: string[];
  startedAt: Date;
  /** Whether it is the box's main process. */
  main: boolean;
  /** Whether its output can be followed: it is detached, or the main process. */
  detached: boolean;
  running: boolean;
  /** The exit code, or 128 + n if signal n ended it; null while it runs. */
  code: number | null;
  /** The signal that ended it, such as 'SIGKILL'. */
  signal: string | null;
  /** The offset of the first byte that is still held, and how many there were; 0 if it is not detached. */
  stdoutFirst: number;
  stdoutTotal: number;
  stderrFirst: number;
  stderrTotal: number;
}

/** What a box's disk was at one moment, kept under a name. */
export interface Snapshot {
  id: string;
  /** The box whose disk it is. */
  boxId: string;
  /** Unique among the snapshots of its box. */
  name: string;
  /** To the second. */
  createdAt: Date;
  /**
   * The name of the snapshot that the disk was based on when this one was made; null if there was none, or
   * it was removed.
   */
  parent: string | null;
  /** The size of the disk as the box sees it, in bytes; 0 if its file cannot be read. */
  virtualBytes: number;
  /**
   * What the snapshot's own file takes on the host, in bytes: about what was written to the disk since its
   * parent.
   */
  allocatedBytes: number;
}

/** What a clone begins with, and what it is called. */
export interface CloneOptions {
  /** The name of the snapshot that the clone begins with. Unless set: what the disk is now. */
  snapshot?: string;
  /** Which no other box of the home has. Default: none. */
  name?: string | null;
}

/** What clones begin with, and how many there are to be: either `names` or `count` is set. */
export type ClonesOptions = Pick<CloneOptions, 'snapshot'> & (
  | {
      /** 1 to 1000, each another, and of no other box of the home; null or undefined is no name. */
      names: readonly (string | null | undefined)[];
      count?: undefined;
    }
  | {
      /** How many clones without names are made, 1 to 1000. */
      count: number;
      names?: undefined;
    }
);

/** How far an operation is, in bytes. */
export interface Progress {
  bytesDone: number;
  bytesTotal: number;
}

/** An operation whose progress can be followed. */
export interface Followed {
  /**
   * Called with how far the operation is, every few MiB and at the end, with the latest if that comes fast;
   * not after a `signal` was aborted. What it throws is an uncaught exception.
   */
  onProgress?: (progress: Progress) => void;
}

/** What of a box an archive is to have: the disk as it is now, unless told otherwise. */
export type ExportOptions =
  | {
      /** The name of the snapshot whose disk the archive is to have. The box may run then. */
      snapshot?: string;
      withSnapshots?: false;
    }
  | {
      /** Whether the archive is to have all snapshots of the box too. Default: false. */
      withSnapshots?: boolean;
      snapshot?: undefined;
    };

/** A disk that was made elsewhere. */
export interface DiskSource {
  /** What its file is in: the disk's bytes and nothing else, or QEMU's format, complete in one file. */
  format: 'raw' | 'qcow2';
}

/** A file of disks, as it was when it was listed. */
export interface StoredFile {
  /**
   * What it is for: `box` is a box's own disk, what was written since what that is based on; `snapshot` a
   * snapshot's; `base` what disks are based on that has no name of its own; `image` an image as a disk, shared
   * by its boxes; `orphan` what nobody needs, and `prune` removes; `unknown` one of a box that the home does not
   * know, which is left alone.
   */
  kind: 'box' | 'snapshot' | 'base' | 'image' | 'orphan' | 'unknown';
  /** Where it is, relative to the home. */
  path: string;
  /** The box in whose directory it is. */
  boxId: string | null;
  /** That of the snapshot that it is of. */
  name: string | null;
  /** The size of the disk as a guest sees it; 0 if it is no disk that can be read. */
  virtualBytes: number;
  /** What the file takes on the host. */
  allocatedBytes: number;
}

/** What is to become of an archive. */
export interface ImportOptions {
  /** Which no other box of the home has; null is no name. Unless set: the one that the box had. */
  name?: string | null;
  /**
   * Whether the archive may bring with it what concerns the host: paths, published ports, and how far the box
   * is shut off. Only for archives that nobody else can have changed. Default: false.
   */
  trusted?: boolean;
}

/**
 * What has happened:
 *
 * - 'overflow': events are missing here, `lost` says how many.
 * - 'boxCreated', 'boxStarted', 'boxResumed', 'boxRemoved'.
 * - 'boxPaused': the box stands still. `text` says why, if nobody asked for that: a full host disk.
 * - 'boxStopped': the box ended as it was meant to, by request or by itself; `text` says why, if nobody
 *   asked for that.
 * - 'boxFailed': the box could not be started, or came to an unwanted end. `text` says why.
 * - 'execStarted': a command was started. `text` is the program, without arguments.
 * - 'execEnded': a command has ended, with `code` and `signal`. `text` says why it could not be run (126,
 *   127), or why its box ended before it.
 * - 'unresponsive': the agent, the machine or the supervisor of a box does not answer; `text` says which was
 *   the first not to. 'responsive': all of them answer again.
 * - 'healthy', 'unhealthy': what the health checks of a box say has changed.
 * - 'unknown': something that a newer library tells and this binding does not know.
 */
export type EventKind =
  | 'overflow'
  | 'boxCreated'
  | 'boxStarted'
  | 'boxPaused'
  | 'boxResumed'
  | 'boxStopped'
  | 'boxFailed'
  | 'boxRemoved'
  | 'execStarted'
  | 'execEnded'
  | 'unresponsive'
  | 'responsive'
  | 'healthy'
  | 'unhealthy'
  | 'unknown';

/** Something that happened to a box, or to a command in it. */
export interface BoxEvent {
  kind: EventKind;
  /** null for an overflow. */
  boxId: string | null;
  /** null if the box has none. */
  boxName: string | null;
  /** What there is to tell of it, see {@link EventKind}. */
  text: string | null;
  time: Date;
  /** The same time in microseconds since the Unix epoch. */
  microseconds: number;
  /** {@link Exec.id} of the command that started or ended; null if none did, or it could not be run. */
  execId: number | null;
  /** The exit code of the command that ended, or 128 + n; null if none did, or its box ended before it. */
  code: number | null;
  /** The signal that ended the command, such as 'SIGKILL'. */
  signal: string | null;
  /** How many events are missing in the place of an overflow; otherwise 0. */
  lost: number;
}

/** What is to be heard of. A `signal` that is aborted ends the stream with an AbortError. */
export interface EventOptions extends Abortable {
  /** How many events wait for who reads, 1 to 65536; newer ones are counted. Default: 1024. */
  capacity?: number;
}

/**
 * What happens to boxes, one {@link BoxEvent} after the other: `for await (const event of stream)`, or
 * 'data'. It ends when the runtime is closed, and is closed by `destroy()` or by leaving the loop. A reader
 * that waits keeps the process alive, unless `unref()` was called.
 */
export interface EventStream extends Readable {
  /** Has a reader that waits not keep the process alive. */
  unref(): this;
  /** Takes `unref()` back. */
  ref(): this;

  read(): BoxEvent | null;
  [Symbol.asyncIterator](): AsyncIterableIterator<BoxEvent>;
  on(event: 'data', listener: (event: BoxEvent) => void): this;
  on(event: string | symbol, listener: (...args: any[]) => void): this;
  once(event: 'data', listener: (event: BoxEvent) => void): this;
  once(event: string | symbol, listener: (...args: any[]) => void): this;
}

/** What a runtime has done since it was opened. */
export interface RuntimeMetrics {
  /** Boxes that this runtime has made. */
  boxesCreatedTotal: number;
  /** Boxes that could not be started, or came to an unwanted end. */
  boxesFailedTotal: number;
  /** Boxes that ended as they were meant to. */
  boxesStoppedTotal: number;
  /** Boxes that run, of those that this runtime has started or is connected to. */
  numRunningBoxes: number;
  /** Commands that this runtime has started. */
  totalCommandsExecuted: number;
  /** Commands of this runtime that could not be started. */
  totalExecErrors: number;
}

/** What a box has done since it was started, and what it takes. undefined is what is not available. */
export interface BoxMetrics {
  /** Commands started in the box since its start, by whatever program. */
  commandsExecutedTotal: number | undefined;
  /** Commands that could not be started in the box. */
  execErrorsTotal: number | undefined;
  /** Bytes that went to the stdin of commands. */
  bytesSentTotal: number | undefined;
  /** Bytes that came of their output. */
  bytesReceivedTotal: number | undefined;
  /**
   * How busy the machine's process was since metrics of the box were asked for before, by whatever
   * program, at first since that process began; 100 is one processor of the host. Twice within 0.2 s is the
   * same.
   */
  cpuPercent: number | undefined;
  /** The memory of the machine's process and the supervisor, in bytes. */
  memoryBytes: number | undefined;
  /** The processor time that the machine's process has used, in milliseconds. */
  machineCpuMs: number | undefined;
  /** The processor time that the supervisor has used, in milliseconds. */
  supervisorCpuMs: number | undefined;
  /**
   * What of the machine's process is in memory, in bytes, with its share of what it shares with other
   * processes; all of it where the host does not tell that.
   */
  machineMemoryBytes: number | undefined;
  /** The same of the supervisor. */
  supervisorMemoryBytes: number | undefined;
  /** Not available yet. */
  networkBytesSent: number | undefined;
  /** Not available yet. */
  networkBytesReceived: number | undefined;
  /** Not available yet. */
  networkTcpConnections: number | undefined;
  /** Not available yet. */
  networkTcpErrors: number | undefined;
  /**
   * The memory that the guest has, in bytes. What begins with "guest", up to `guestDiskUsedBytes`, the guest
   * says of itself, which whoever is root in it can falsify; undefined if it is paused or does not answer.
   */
  guestMemoryTotalBytes: number | undefined;
  /** The memory that programs in it could have, in bytes. */
  guestMemoryAvailableBytes: number | undefined;
  /** The time that its processors were busy, in milliseconds, all of them added up. */
  guestCpuMs: number | undefined;
  /** Its load on the average of 1, 5 and 15 minutes. */
  guestLoad1: number | undefined;
  guestLoad5: number | undefined;
  guestLoad15: number | undefined;
  /** The processes and threads in it. */
  guestProcesses: number | undefined;
  /** The time since its kernel booted, in milliseconds: that of a template, if it was restored. */
  guestUptimeMs: number | undefined;
  /** The size of its root file system, in bytes. */
  guestDiskSizeBytes: number | undefined;
  /** What is taken of that, in bytes. */
  guestDiskUsedBytes: number | undefined;
  /**
   * How long the box's start took, in milliseconds, as all that follow. They are for comparison with other
   * software: {@link BoxInfo.stages} has the stages as they are.
   */
  totalCreateMs: number | undefined;
  /** Of that: until the machine was booted, restored or handed over. */
  guestBootMs: number | undefined;
  /**
   * Of that: looking at the host, and having the box's directories and row as they are to be. As the next, 0
   * where another program has started the box.
   */
  filesystemSetupMs: number | undefined;
  /** Of that: making a template with the image's disk, at the first start of an image. */
  imagePrepareMs: number | undefined;
  /** Of that: making a machine template, at the first start of all. */
  guestRootfsMs: number | undefined;
  /** Of that: putting together what the supervisor is to do. */
  boxConfigMs: number | undefined;
  /** Of that: the processes of the supervisor and, before a boot, the machine. */
  boxSpawnMs: number | undefined;
  /** Of that: identity, clock and disk. */
  containerInitMs: number | undefined;
}

/** How often a runtime has done something since it was opened. */
export interface Counters {
  /** Boxes started by booting their kernel. */
  coldStarts: number;
  /** Boxes restored from a machine template. */
  restoredStarts: number;
  /** Boxes that got a machine which was waiting for one. */
  pooledStarts: number;
  /** Machine templates made. */
  templatesMade: number;
  /** Templates made with the disk of an image mounted. */
  diskTemplatesMade: number;
  /** Times that a faster way to start a box did not work. */
  detours: number;
  /** Boxes made. */
  boxesCreated: number;
  /** Boxes that could not be started, or came to an unwanted end. */
  boxesFailed: number;
  /** Boxes that ended as they were meant to. */
  boxesStopped: number;
  /** Commands started. */
  commandsExecuted: number;
  /** Commands that could not be started. */
  execErrors: number;
}

/** How a command ended. */
export interface ExitStatus {
  /** The exit code; 128 + n if signal n ended it; 126 or 127 if it could not be run. */
  code: number;
  /** The signal that ended it, such as 'SIGKILL'. */
  signal: string | null;
  /** Why it could not be run. */
  message: string | null;
}

/** What a command wrote, and how it ended. */
export interface Output extends ExitStatus {
  stdout: Buffer;
  stderr: Buffer;
  /** How many bytes there were beyond the limit. */
  stdoutDropped: number;
  stderrDropped: number;
}

/** What the library refuses or fails to do. */
export class BoxliteError extends Error {
  readonly name: 'BoxliteError';
  /** The status's name in boxlite.h, such as 'BOXLITE_NOT_FOUND'. */
  readonly code: string;
  /** The status's number in boxlite.h. */
  readonly status: number;
  /** What it is about: an argument, a path, a box. */
  readonly object: string | undefined;
  /** The system's error number that was the cause, as in errno.h: positive. */
  readonly errno: number | undefined;
  /** Whether the same call may succeed later without any change. */
  readonly retryable: boolean;
}

/**
 * An open home. The process may end while it is open: only what is awaited or read keeps it alive.
 * Its boxes end with the process, except detached ones.
 */
export class Runtime {
  /** Opens a home. Reads and writes some files before it returns. */
  constructor(options?: RuntimeOptions);

  /**
   * Makes a box from an image: a directory with an OCI layout, or a file that is an OCI or
   * `docker save` archive; "PATH:TAG" chooses among several. Nothing runs yet.
   */
  create(image: string, options?: BoxOptions & Abortable): Promise<Box>;

  /**
   * Makes a box from a disk that was made elsewhere: a file with an ext4 file system, without partitions. It is
   * read, checked and copied, and may come from a stranger; nobody may write to it meanwhile. The box has no
   * environment, working directory, user or command but those that are set, and its disk is as large as the
   * file's unless `diskSizeMib` is larger. Nothing runs yet.
   *
   * BOXLITE_NOT_FOUND if there is no such file; BOXLITE_UNSUPPORTED for another file system, or a file that is
   * based on another, is encrypted, or has features that are not known; BOXLITE_STORAGE if it is damaged;
   * BOXLITE_INVALID_ARGUMENT for a size smaller than the disk's.
   */
  createFromDisk(path: string, options: DiskSource & BoxOptions & Abortable): Promise<Box>;

  /**
   * Makes a box of an archive that {@link Box.export} has written, here or elsewhere. Archives may come from
   * strangers: all of it is read and checked before there is a box. Progress is in bytes of the archive. Nothing
   * runs yet; nothing is left if it is aborted.
   *
   * BOXLITE_NOT_FOUND if there is no such file; BOXLITE_INVALID_ARGUMENT if it is no archive, damaged, not all
   * there, or says of itself what is not so; BOXLITE_UNSUPPORTED for its version, or disks with features that
   * boxes' disks do not have; BOXLITE_ALREADY_EXISTS for a name in use; BOXLITE_RESOURCE_EXHAUSTED if there is
   * no room.
   */
  import(path: string, options?: ImportOptions & Followed & Abortable): Promise<Box>;

  /**
   * The files of disks that the home has, by their paths: those of boxes, snapshots and images, what these are
   * based on, and what nobody needs.
   */
  listFiles(options?: Abortable): Promise<StoredFile[]>;

  /**
   * Removes the files of disks that nobody needs, or with `dryRun` finds out which these are. The result is
   * these files. Programs that died may leave such. BOXLITE_BUSY while a program is changing which disks there
   * are.
   */
  prune(options?: { dryRun?: boolean } & Abortable): Promise<StoredFile[]>;

  /** Finds a box by its id or name. BOXLITE_METADATA if what is stored of it cannot be read. */
  get(idOrName: string, options?: Abortable): Promise<Box>;

  /** The boxes of the home that fit the filter, or all of them, newest first. */
  list(options?: ListFilter & Abortable): Promise<BoxInfo[]>;

  /** Removes a box and its disk. One that runs is refused, or stopped at once if `force` is set. */
  remove(idOrName: string, options?: { force?: boolean } & Abortable): Promise<void>;

  /**
   * Stops all boxes that this program runs, except detached ones: their processes get SIGTERM and
   * `graceMs` milliseconds (default: 10000) to end. Machines that wait for boxes end too, and no more
   * are made.
   */
  shutdown(options?: { graceMs?: number } & Abortable): Promise<void>;

  /**
   * What happens to boxes from now on: what this runtime does, and what happens to boxes that it runs or has
   * used, whoever does it; not what other programs do to boxes that it has never used. Events of one box
   * come in the order in which they happened, each once, and the end of a command before that of its box.
   */
  events(options?: EventOptions): EventStream;

  /** How many machines wait for boxes now, see {@link PoolOptions}. */
  poolReady(): number;

  /** How often this runtime has done what it counts. */
  counters(): Counters;

  /** What this runtime has done, and how many of its boxes run. */
  metrics(options?: Abortable): Promise<RuntimeMetrics>;

  /**
   * The metrics of this runtime, and of the running boxes that it has started or has used, in the text format
   * of Prometheus (0.0.4). A box that does not answer is not in it.
   */
  metricsText(options?: Abortable): Promise<string>;

  /**
   * Lets go of the home, which otherwise happens when it is collected as garbage. Boxes, execs and
   * promises keep it; with the last of them its boxes are stopped without a grace, except detached
   * ones. Streams of events end, after those that wait in them.
   */
  close(): void;
}

/** A box, running or not. Comes from a {@link Runtime}. */
export class Box {
  private constructor();
  readonly id: string;
  readonly name: string | null;

  /** Starts the box. One that runs stays as it is. */
  start(options?: Abortable): Promise<void>;

  /** Stops the box: its processes get SIGTERM and `graceMs` milliseconds (default: 10000) to end. */
  stop(options?: { graceMs?: number } & Abortable): Promise<void>;

  /**
   * Has the box stand still: its processes do not run until it is resumed, and keep their memory.
   * While it is paused, commands cannot be started (BOXLITE_INVALID_STATE); stopping it works.
   */
  pause(options?: Abortable): Promise<void>;

  /**
   * Has a paused box go on, also one that was paused because the host's disk was full, which
   * {@link BoxInfo.error} tells.
   */
  resume(options?: Abortable): Promise<void>;

  inspect(options?: Abortable): Promise<BoxInfo>;

  /**
   * What the box has done since it was started, and what it takes. BOXLITE_INVALID_STATE if it does not run. A
   * guest that does not answer is waited for up to 2 s, and then left out.
   */
  metrics(options?: Abortable): Promise<BoxMetrics>;

  /**
   * Runs a command in the box, which is started first if it does not run. An empty `argv` runs the
   * box's own command. A command that cannot be run exits with 126 or 127.
   *
   * A signal that is aborted kills the command (SIGKILL to its process group), after which
   * {@link Exec.wait} rejects with an AbortError. With a signal the command keeps the process
   * alive, as if it were waited for.
   */
  exec(argv: readonly string[], options?: ExecOptions & Abortable): Promise<Exec>;

  /**
   * The commands that run in the box, whichever program has started them, and detached ones that have
   * ended: the last 32, and the main process. In the order in which they were started; none if the box
   * does not run.
   */
  listExecs(options?: Abortable): Promise<ExecInfo[]>;

  /**
   * Follows the output of a detached command, whichever program has started it, from any offset on. Any
   * number of programs may follow a command, and none holds it or another up. There is no stdin; `kill`
   * works. When the box has ended, what it left can be followed until it is started again. A signal
   * cancels the attaching only.
   *
   * BOXLITE_NOT_FOUND if there is no such command, or it ended long ago; BOXLITE_INVALID_STATE if it is
   * not detached; BOXLITE_INVALID_ARGUMENT for an offset beyond what it has written.
   */
  attach(id: number, options?: AttachOptions & Abortable): Promise<Exec>;

  /** Follows the output of the box's main process, or that of its last run; otherwise as `attach`. */
  attachMain(options?: AttachOptions & Abortable): Promise<Exec>;

  /** Runs a command and gathers its output. A signal that is aborted kills the command. */
  run(argv: readonly string[], options?: RunOptions & Abortable): Promise<Output>;

  /**
   * Keeps what the box's disk is now under a name: 1 to 255 bytes of UTF-8, no '/' and no '\', not
   * beginning with '.'. Nothing is copied, however much the disk holds.
   *
   * The file system of a box that runs is frozen for some tens of milliseconds: what its processes had
   * written to files by then is in the snapshot, and whole; what they only have in memory is not. A box that
   * is being started is waited for.
   *
   * BOXLITE_ALREADY_EXISTS if the box has one of this name; BOXLITE_INVALID_STATE if it is paused or being
   * stopped; BOXLITE_TIMEOUT if the file system did not come to rest within 5 s; BOXLITE_RESOURCE_EXHAUSTED
   * if the host's disk is full, or the box's disk consists of 64 files already. Nothing has changed then.
   */
  createSnapshot(name: string, options?: Abortable): Promise<Snapshot>;

  /** The box's snapshots, in the order in which they were made. */
  listSnapshots(options?: Abortable): Promise<Snapshot[]>;

  /** The snapshot of this name; null if there is none. */
  getSnapshot(name: string, options?: Abortable): Promise<Snapshot | null>;

  /**
   * Has the box's disk be what it was in a snapshot, in one step. What was written since is gone, unless
   * another snapshot has it; all snapshots stay. BOXLITE_INVALID_STATE if the box runs: stop it first;
   * BOXLITE_NOT_FOUND if there is no such snapshot. The disk is as it was then.
   */
  restoreSnapshot(name: string, options?: Abortable): Promise<void>;

  /**
   * Removes a snapshot. The box may run. What one other snapshot, or the disk, needs of it is merged into
   * that, which takes as long as writing it. BOXLITE_NOT_FOUND if there is none; BOXLITE_INVALID_STATE if
   * several disks are based on it, or one of another box, which the message names.
   */
  removeSnapshot(name: string, options?: Abortable): Promise<void>;

  /**
   * Makes a box that begins with what this one's disk is now, or was in a snapshot. It has this box's options,
   * and an id, a host name and a machine id of its own; from then on, each has its own disk. Nothing is copied,
   * however much that holds, and nothing runs yet. What the clone is based on stays until it is removed, also
   * when this box is.
   *
   * This box may run: it goes on, and its file system is frozen for some tens of milliseconds, as for
   * `createSnapshot`. Once the clone is being made, a signal does not stop that.
   *
   * BOXLITE_ALREADY_EXISTS for a name in use, BOXLITE_NOT_FOUND if there is no such snapshot, and the errors of
   * `createSnapshot`. Nothing has been made then.
   */
  clone(options?: CloneOptions & Abortable): Promise<Box>;

  /**
   * Makes several clones at once, in the order of their names: all or, on an error, none. They share what they
   * begin with. Otherwise as `clone`.
   */
  clones(options: ClonesOptions & Abortable): Promise<Box[]>;

  /**
   * Makes the disk of a box that does not run larger, in MiB, up to 16 TiB. The box's file system grows with it
   * when it is started next; it cannot become smaller again. Snapshots stay as they are.
   *
   * BOXLITE_INVALID_ARGUMENT for a size that is no more than it has, or too much; BOXLITE_INVALID_STATE if the
   * box runs; BOXLITE_UNSUPPORTED if a disk that was made small is to grow beyond 4 TiB before a snapshot is
   * made. Nothing has changed then.
   */
  growDisk(sizeMib: number, options?: Abortable): Promise<void>;

  /**
   * Writes the box into one file, its archive: to `path`, where nothing is yet, or into the directory `path` as
   * `NAME.boxlite`, with the box's name or, if it has none, `box`. Directories on the way are made. The box stays
   * as it is; one that runs goes on, and the archive has what its disk was at one moment. Progress is in bytes of
   * disks. The result is the file's path; no file is left if it is aborted.
   *
   * An archive has disk, options and image configuration of the box; all environment variables too. Nothing in
   * it is secret to who has it.
   *
   * BOXLITE_ALREADY_EXISTS for a file that is there; BOXLITE_INVALID_STATE if the box is paused, or is
   * being stopped; BOXLITE_NOT_FOUND if there is no such snapshot; BOXLITE_BUSY while another program is changing
   * the box; BOXLITE_RESOURCE_EXHAUSTED if there is no room.
   */
  export(path: string, options?: ExportOptions & Followed & Abortable): Promise<string>;

  /** Lets go of the handle, which otherwise happens when it is collected as garbage. */
  close(): void;
}

/**
 * A command's stdout or stderr. Where bytes of a command that is followed are no longer held, there is
 * an event 'gap' with their number, after what came before them was taken and before what comes after
 * them. Only detached commands and main processes have gaps.
 */
export interface OutputStream extends Readable {
  /** How many bytes of the stream were taken or are gone: where {@link Box.attach} would go on. */
  readonly offset: number;
  /** How many bytes were gone when it was their turn. */
  readonly lost: number;

  on(event: 'gap', listener: (bytes: number) => void): this;
  on(event: string | symbol, listener: (...args: any[]) => void): this;
  once(event: 'gap', listener: (bytes: number) => void): this;
  once(event: string | symbol, listener: (...args: any[]) => void): this;
}

/** A command that runs, or ran, in a box. Comes from a {@link Box}. One that is dropped runs on. */
export class Exec {
  private constructor();

  /**
   * The number by which any program can attach to it, if it is detached: unique in a run of its box. 0
   * if it could not be run.
   */
  readonly id: number;

  /**
   * What the command reads; null unless asked for. Up to 128 KiB wait for it; a command that has
   * closed its stdin loses them. A write after it has ended fails with BOXLITE_INVALID_STATE.
   */
  readonly stdin: Writable | null;

  /**
   * What the command writes: Buffers of any length. Up to 256 KiB wait for a reader, then the
   * command does. What is destroyed is dropped and does not hold it up. If the box dies, 'error'
   * comes in place of 'end'; one that is stopped or removed first ends its commands by a signal.
   */
  readonly stdout: OutputStream;
  readonly stderr: OutputStream;

  /**
   * Waits for the command's end, and for that of the outputs that were begun to be read. Rejects
   * if its box dies first.
   */
  wait(): Promise<ExitStatus>;

  /** Sends a signal to the command's process group. BOXLITE_NOT_FOUND if it has ended. */
  kill(signal?: NodeJS.Signals | number): Promise<void>;
}
