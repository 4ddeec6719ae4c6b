// What the servers of this folder share: where they listen, and how they end. See ../README.md.
export function listen(http) {
  http.listen(Number(process.argv[2] ?? 0), "127.0.0.1", () => console.log(`listening ${http.address().port}`));
  process.stdin.on("end", () => process.exit(0)).resume();
}
