// Boots a box from an image, runs a command in it, prints its output as it comes.
//
//   node hello.js IMAGE [COMMAND [ARGUMENT...]]
'use strict';

const { Runtime, BoxliteError } = require('../../bindings/node');

async function main([image, ...argv]) {
  if (!image) {
    console.error('usage: node hello.js IMAGE [COMMAND [ARGUMENT...]]');
    return 125;
  }
  const runtime = new Runtime();
  const box = await runtime.create(image);
  try {
    await box.start();
    for (const { name, microseconds } of (await box.inspect()).stages)
      console.error(`start: ${name.padEnd(12)} ${(microseconds / 1000).toFixed(1).padStart(8)} ms`);

    const exec = await box.exec(argv);
    exec.stdout.pipe(process.stdout);
    exec.stderr.pipe(process.stderr);
    const { code, signal, message } = await exec.wait();
    if (message) console.error(`hello: ${message}`);
    if (signal) console.error(`hello: ended by ${signal}`);
    console.error(`hello: exit code ${code}`);
    return code;
  } finally {
    await runtime.remove(box.id, { force: true });
  }
}

main(process.argv.slice(2)).then(
  (code) => {
    process.exitCode = code;
  },
  (error) => {
    if (!(error instanceof BoxliteError)) throw error;
    console.error(`${error.code}: ${error.message}`);
    process.exitCode = 125;
  },
);
