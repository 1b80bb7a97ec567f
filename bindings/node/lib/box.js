'use strict';

const { Exec, signalName } = require('./exec');
const { abortError } = require('./errors');
const { operation } = require('./operation');

const GRACE_MS = 10_000;
const LIMIT = 1024 * 1024;

// A box, running or not.
class Box {
  #native;

  constructor(native) {
    this.#native = native;
    this.id = native.id;
    this.name = native.name;
  }

  async start({ signal } = {}) {
    await operation(signal, (done) => this.#native.start(done));
  }

  async stop({ graceMs = GRACE_MS, signal } = {}) {
    await operation(signal, (done) => this.#native.stop(graceMs, done));
  }

  async pause({ signal } = {}) {
    await operation(signal, (done) => this.#native.pause(done));
  }

  async resume({ signal } = {}) {
    await operation(signal, (done) => this.#native.resume(done));
  }

  async inspect({ signal } = {}) {
    const info = await operation(signal, (done) => this.#native.inspect(done));
    return readInfo(info);
  }

  async metrics({ signal } = {}) {
    return operation(signal, (done) => this.#native.metrics(done));
  }

  async exec(argv, { signal, ...options } = {}) {
    const native = await operation(signal, (done) => this.#native.exec(argv, options, done));
    const exec = new Exec(native, options.stdin);
    // One that is detached is not bound to whoever has started it.
    if (signal && !options.detach) {
      exec._killOn(signal);
      if (signal.aborted) throw abortError(signal);
    }
    return exec;
  }

  async listExecs({ signal } = {}) {
    const list = await operation(signal, (done) => this.#native.listExecs(done));
    return list.map(readExecInfo);
  }

  async attach(id, { stdoutFrom = 0, stderrFrom = 0, signal } = {}) {
    return new Exec(
      await operation(signal, (done) => this.#native.attach(id, stdoutFrom, stderrFrom, done)),
    );
  }

  async attachMain({ stdoutFrom = 0, stderrFrom = 0, signal } = {}) {
    return new Exec(
      await operation(signal, (done) => this.#native.attachMain(stdoutFrom, stderrFrom, done)),
    );
  }

  async run(argv, { limit = LIMIT, signal, ...options } = {}) {
    const output = await operation(signal, (done) => this.#native.run(argv, options, limit, done));
    return { ...output, signal: signalName(output.signal) };
  }

  async createSnapshot(name, { signal } = {}) {
    const made = await operation(signal, (done) => this.#native.createSnapshot(name, done));
    return readSnapshot(made);
  }

  async listSnapshots({ signal } = {}) {
    const list = await operation(signal, (done) => this.#native.listSnapshots(done));
    return list.map(readSnapshot);
  }

  async getSnapshot(name, { signal } = {}) {
    const found = await operation(signal, (done) => this.#native.getSnapshot(name, done));
    return found && readSnapshot(found);
  }

  async restoreSnapshot(name, { signal } = {}) {
    await operation(signal, (done) => this.#native.restoreSnapshot(name, done));
  }

  async removeSnapshot(name, { signal } = {}) {
    await operation(signal, (done) => this.#native.removeSnapshot(name, done));
  }

  async clone({ signal, ...options } = {}) {
    return new Box(await operation(signal, (done) => this.#native.clone(options, done)));
  }

  async clones({ signal, ...options } = {}) {
    const made = await operation(signal, (done) => this.#native.clones(options, done));
    return made.map((native) => new Box(native));
  }

  async growDisk(sizeMib, { signal } = {}) {
    await operation(signal, (done) => this.#native.growDisk(sizeMib, done));
  }

  async export(path, { signal, onProgress, ...options } = {}) {
    return operation(signal, (done) => this.#native.export(path, options, onProgress, done));
  }

  close() {
    this.#native.close();
  }
}

function readInfo(info) {
  return {
    ...info,
    createdAt: new Date(info.createdAt),
    lastCheck: info.lastCheck && new Date(info.lastCheck),
    main: info.main && { ...info.main, signal: signalName(info.main.signal) },
  };
}

function readExecInfo(info) {
  return { ...info, startedAt: new Date(info.startedAt), signal: signalName(info.signal) };
}

function readSnapshot(snapshot) {
  return { ...snapshot, createdAt: new Date(snapshot.createdAt) };
}

module.exports = { Box, GRACE_MS, readInfo };
