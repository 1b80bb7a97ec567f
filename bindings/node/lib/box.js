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

  async inspect({ signal } = {}) {
    const info = await operation(signal, (done) => this.#native.inspect(done));
    return readInfo(info);
  }

  async exec(argv, { signal, ...options } = {}) {
    const native = await operation(signal, (done) => this.#native.exec(argv, options, done));
    const exec = new Exec(native, options.stdin);
    if (signal) exec._killOn(signal);
    if (signal?.aborted) throw abortError(signal);
    return exec;
  }

  async run(argv, { limit = LIMIT, signal, ...options } = {}) {
    const output = await operation(signal, (done) => this.#native.run(argv, options, limit, done));
    return { ...output, signal: signalName(output.signal) };
  }

  close() {
    this.#native.close();
  }
}

function readInfo(info) {
  return { ...info, createdAt: new Date(info.createdAt) };
}

module.exports = { Box, GRACE_MS, readInfo };
