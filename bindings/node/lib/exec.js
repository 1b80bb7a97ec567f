'use strict';

const { constants } = require('node:os');
const { abortError } = require('./errors');
const { operation } = require('./operation');
const { Input, Output, STDIN, STDOUT, STDERR } = require('./streams');

// A signal's number, from its name or number. Guests are Linux on x86-64 as hosts are.
function signalNumber(signal) {
  const number = typeof signal === 'string' ? constants.signals[signal] : signal;
  if (number !== undefined) return number;
  const error = new TypeError(`Unknown signal: ${signal}`);
  error.code = 'ERR_UNKNOWN_SIGNAL';
  throw error;
}

function signalName(number) {
  if (number === 0) return null;
  const known = Object.entries(constants.signals).find(([, value]) => value === number);
  return known ? known[0] : `SIG${number}`;
}

// A command that runs, or ran, in a box.
class Exec {
  #native;
  #exit;

  constructor(native, stdin) {
    this.#native = native;
    this.id = native.id;
    this.stdin = stdin ? new Input(native) : null;
    this.stdout = new Output(native, STDOUT);
    this.stderr = new Output(native, STDERR);
    const streams = { [STDIN]: this.stdin, [STDOUT]: this.stdout, [STDERR]: this.stderr };
    native.onready = (stream) => streams[stream].ready();
  }

  wait() {
    this.#exit ??= new Promise((resolve, reject) => {
      this.#native.wait((error, code, signal) => {
        // Without a code there is no ordinary end; else an error tells why nothing could be run.
        if (code < 0) reject(error);
        else resolve({ code, signal: signalName(signal), message: error?.message ?? null });
      });
    });
    return this.#exit;
  }

  async kill(signal = 'SIGTERM') {
    const number = signalNumber(signal);
    await operation(undefined, (done) => this.#native.signal(number, done));
  }

  // Has the command killed when the signal is aborted.
  _killOn(signal) {
    const kill = () => {
      // It may have ended just now; what else goes wrong, wait() tells.
      this.kill('SIGKILL').catch(() => {});
    };
    const exit = this.wait().finally(() => signal.removeEventListener('abort', kill));
    this.#exit = exit.then((status) => {
      if (signal.aborted && status.signal === 'SIGKILL') throw abortError(signal);
      return status;
    });
    // Who does not wait does not want to hear of it.
    this.#exit.catch(() => {});
    if (signal.aborted) kill();
    else signal.addEventListener('abort', kill, { once: true });
  }
}

module.exports = { Exec, signalName };
