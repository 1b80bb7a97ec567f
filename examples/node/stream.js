// Runs a command in a box with this program's stdin and stdout, and ends it after some time.
//
//   node stream.js IMAGE MILLISECONDS COMMAND [ARGUMENT...] <input >output
'use strict';

const { pipeline } = require('node:stream/promises');
const { Runtime } = require('../../bindings/node');

async function main([image, milliseconds, ...argv]) {
  if (argv.length === 0) {
    console.error('usage: node stream.js IMAGE MILLISECONDS COMMAND [ARGUMENT...]');
    return 125;
  }
  const runtime = new Runtime();
  const box = await runtime.create(image);
  try {
    await box.start();
    const signal = AbortSignal.timeout(Number(milliseconds));
    const exec = await box.exec(argv, { stdin: true, signal });
    exec.stderr.pipe(process.stderr);
    const [{ code }] = await Promise.all([
      exec.wait(),
      pipeline(exec.stdout, process.stdout),
      // A command may end before it has read everything.
      pipeline(process.stdin, exec.stdin, { signal }).catch(() => process.stdin.destroy()),
    ]);
    return code;
  } catch (error) {
    if (error.name !== 'AbortError') throw error;
    console.error(`stream: not done after ${milliseconds} ms`);
    return 124;
  } finally {
    await runtime.remove(box.id, { force: true });
  }
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    console.error(`stream: ${error.code ?? ''} ${error.message}`);
    process.exitCode = 125;
  },
);
