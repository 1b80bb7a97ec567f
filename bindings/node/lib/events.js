'use strict';

const { addAbortSignal, Readable } = require('node:stream');
const { signalName } = require('./exec');
const { readOn } = require('./streams');

// What happens to boxes. Takes only what is asked for: the rest waits in a queue with a limit.
class Events extends Readable {
  #native;
  #waiting = false;

  constructor(native, signal) {
    super({ objectMode: true, highWaterMark: 1 });
    this.#native = native;
    native.onready = () => {
      this.#waiting = false;
      readOn(this);
    };
    if (signal) addAbortSignal(signal, this);
  }

  _read() {
    if (this.#waiting) return;
    const event = this.#native.read();
    this.#waiting = event === undefined;
    if (!this.#waiting) this.push(event && readEvent(event));
  }

  _destroy(error, callback) {
    this.#native.close();
    callback(error);
  }

  ref() {
    this.#native.setRef(true);
    return this;
  }

  unref() {
    this.#native.setRef(false);
    return this;
  }
}

function readEvent({ microseconds, ...event }) {
  const time = new Date(microseconds / 1000);
  return { ...event, signal: signalName(event.signal), time, microseconds };
}

module.exports = { Events };
