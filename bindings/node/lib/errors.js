'use strict';

// What the library refuses or fails to do. `code` is the status's name, as in boxlite.h.
class BoxliteError extends Error {
  constructor(message, { code, status, object, errno, retryable }) {
    super(message);
    this.code = code;
    this.status = status;
    this.object = object;
    this.errno = errno;
    this.retryable = retryable;
  }
}
Object.defineProperty(BoxliteError.prototype, 'name', { value: 'BoxliteError', configurable: true });

// The error of a call that its AbortSignal ended, as Node's own functions have it.
function abortError(signal) {
  const error = new Error('The operation was aborted', { cause: signal.reason });
  error.name = 'AbortError';
  error.code = 'ABORT_ERR';
  return error;
}

module.exports = { BoxliteError, abortError };
