'use strict';

const { abortError } = require('./errors');

// Makes a promise of an operation of the library's. `start` starts it: it gets a function that
// is called with (error, result) at the end, and returns one that cancels it.
async function operation(signal, start) {
  if (signal?.aborted) throw abortError(signal);
  let cancel;
  try {
    return await new Promise((resolve, reject) => {
      cancel = start((error, result) => (error ? reject(error) : resolve(result)));
      signal?.addEventListener('abort', cancel, { once: true });
    });
  } catch (error) {
    if (signal?.aborted && error.code === 'BOXLITE_CANCELLED') throw abortError(signal);
    throw error;
  } finally {
    signal?.removeEventListener('abort', cancel);
  }
}

module.exports = { operation };
