// Runs the program that its arguments name, and measures the turns of its event loop: SIGUSR2 begins a window, the next
// one ends it and prints the longest turn in it. Counted is the CPU time of the thread, so that other processes and the
// disk do not count. JavaScript, since Node would load a compiler for anything else into the process that is measured.
import process from 'node:process';
import { setImmediate } from 'node:timers';
import { pathToFileURL } from 'node:url';

let windows = 0;
let isOpen = false;
let startedAt = 0;
let longest = 0;

/** In microseconds. */
function cpuTime() {
  process.cpuUsage(); // brings what Linux has counted for this thread up to date, else it is as of the last tick
  const { user, system } = process.threadCpuUsage();
  return user + system;
}

/** Runs once in each turn. */
function turn() {
  if (!isOpen) return;
  longest = Math.max(longest, cpuTime() - startedAt);
  startedAt = cpuTime();
  setImmediate(turn);
}

process.on('SIGUSR2', () => {
  isOpen = !isOpen;
  if (isOpen) {
    longest = 0;
    startedAt = cpuTime();
    setImmediate(turn);
    console.error(`window ${++windows} of turns: open`);
  } else console.error(`window ${windows} of turns: ${longest} us`);
});

process.argv.splice(1, 1);
await import(pathToFileURL(process.argv[1]).href);
