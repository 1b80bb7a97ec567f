'use strict';

const { Readable, Writable } = require('node:stream');

// The streams' numbers in the library.
const STDIN = 0;
const STDOUT = 1;
const STDERR = 2;

// Reads on, outside of a read by Node's: so listeners are called at once.
function readOn(stream) {
  if (stream.destroyed) return;
  let done = false;
  try {
    stream._read();
    done = true;
  } finally {
    // A listener threw, which must not be the end of the stream.
    if (!done) setImmediate(() => stream.read(0));
  }
}

// A command's stdout or stderr. Reads only what is asked for: unread output holds up the command.
class Output extends Readable {
  #exec;
  #stream;
  #waiting = false;
  // Bytes of gaps that listeners were told of, and of one that they were not told of yet.
  #told = 0;
  #gap = 0;
  #telling = false;
  // Whether the reader wants more bytes at once than there are.
  #wanted = false;

  constructor(exec, stream) {
    super();
    this.#exec = exec;
    this.#stream = stream;
  }

  // What is behind it was not taken yet.
  get offset() {
    return this.#exec.offset(this.#stream) - this.#gap - this.readableLength;
  }

  get lost() {
    return this.#told;
  }

  read(size) {
    const chunk = super.read(size);
    if (size !== 0) this.#wanted = chunk === null && size > this.readableLength;
    this.#tell();
    return chunk;
  }

  _read() {
    if (this.#waiting || this.#gap) return;
    let chunk;
    try {
      chunk = this.#exec.read(this.#stream);
    } catch (error) {
      this.destroy(error);
      return;
    }
    if (chunk === false) {
      this.#gap = this.#exec.lost(this.#stream) - this.#told;
      this.#tell();
      return;
    }
    this.#waiting = chunk === undefined;
    if (!this.#waiting) this.push(chunk);
  }

  // Tells of a gap once all that came before it was taken, or is not enough for the reader, and reads
  // on.
  #tell() {
    if (!this.#gap || this.#telling || (this.readableLength > 0 && !this.#wanted)) return;
    this.#telling = true;
    setImmediate(() => {
      const bytes = this.#gap;
      this.#telling = false;
      this.#gap = 0;
      this.#told += bytes;
      if (this.destroyed) return;
      try {
        this.emit('gap', bytes);
      } finally {
        if (!this.destroyed) this._read();
      }
    });
  }

  // What a read waited for is there.
  ready() {
    this.#waiting = false;
    readOn(this);
  }

  // What is not read any more must not hold up the command.
  _destroy(error, callback) {
    this.#waiting = false;
    this.#exec.drop(this.#stream);
    callback(error);
  }
}

// A command's stdin.
class Input extends Writable {
  #exec;
  #rest = null;

  constructor(exec) {
    super();
    this.#exec = exec;
  }

  _write(chunk, encoding, callback) {
    this.#send({ chunk, offset: 0, callback });
  }

  #send(rest) {
    this.#rest = null;
    try {
      while (rest.offset < rest.chunk.length) {
        const written = this.#exec.write(rest.chunk, rest.offset);
        if (written === 0) {
          this.#rest = rest;
          return;
        }
        rest.offset += written;
      }
    } catch (error) {
      rest.callback(error);
      return;
    }
    rest.callback();
  }

  // What a write waited for is there.
  ready() {
    if (this.#rest) this.#send(this.#rest);
  }

  _final(callback) {
    this.#close(callback);
  }

  _destroy(error, callback) {
    this.#rest = null;
    this.#close((failure) => callback(error ?? failure));
  }

  #close(callback) {
    try {
      this.#exec.closeStdin();
    } catch (error) {
      callback(error);
      return;
    }
    callback();
  }
}

module.exports = { Input, Output, readOn, STDIN, STDOUT, STDERR };
