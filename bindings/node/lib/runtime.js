'use strict';

const native = require('./native');
const { Box, GRACE_MS, readInfo } = require('./box');
const { Events } = require('./events');
const { operation } = require('./operation');

// An open home.
class Runtime {
  #native;

  constructor(options = {}) {
    this.#native = new native.Runtime(options);
  }

  async create(image, { signal, ...options } = {}) {
    return new Box(await operation(signal, (done) => this.#native.create(image, options, done)));
  }

  async createFromDisk(path, { format, signal, ...options } = {}) {
    const start = (done) => this.#native.createFromDisk(path, format, options, done);
    return new Box(await operation(signal, start));
  }

  async import(path, { signal, onProgress, ...options } = {}) {
    return new Box(
      await operation(signal, (done) => this.#native.import(path, options, onProgress, done)),
    );
  }

  async get(idOrName, { signal } = {}) {
    return new Box(await operation(signal, (done) => this.#native.get(idOrName, done)));
  }

  async list({ signal, ...filter } = {}) {
    const list = await operation(signal, (done) => this.#native.list(filter, done));
    return list.map(readInfo);
  }

  async remove(idOrName, { force = false, signal } = {}) {
    await operation(signal, (done) => this.#native.remove(idOrName, force, done));
  }

  async listFiles({ signal } = {}) {
    return operation(signal, (done) => this.#native.listFiles(done));
  }

  async prune({ dryRun = false, signal } = {}) {
    return operation(signal, (done) => this.#native.prune(dryRun, done));
  }

  async shutdown({ graceMs = GRACE_MS, signal } = {}) {
    await operation(signal, (done) => this.#native.shutdown(graceMs, done));
  }

  events({ signal, ...options } = {}) {
    return new Events(this.#native.subscribe(options), signal);
  }

  async metrics({ signal } = {}) {
    return operation(signal, (done) => this.#native.metrics(done));
  }

  async metricsText({ signal } = {}) {
    return operation(signal, (done) => this.#native.metricsText(done));
  }

  poolReady() {
    return this.#native.poolReady();
  }

  counters() {
    return this.#native.counters();
  }

  close() {
    this.#native.close();
  }
}

module.exports = { Runtime };
