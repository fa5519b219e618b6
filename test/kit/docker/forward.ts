// ADDRESS PORT SOCKET: carries TCP connections to a unix socket. A network namespace has a loopback of its own
// but shares the files, so this is how a program in one reaches a server outside.
import { connect, createServer } from 'node:net';
import process from 'node:process';

const [address = '', port = '', socketPath = ''] = process.argv.slice(2);
createServer(inside => {
  const outside = connect(socketPath);
  inside.on('error', () => outside.destroy());
  outside.on('error', () => inside.destroy());
  inside.pipe(outside).pipe(inside);
}).listen(Number(port), address);
