<?php
// Publishes with Symfony's Mercure component, as Debian has it: php-symfony-mercure.
//
//   php symfony_mercure.php 'http://127.0.0.1:8080/.well-known/mercure' TOKEN_FILE

require_once 'Symfony/Component/Mercure/autoload.php';
require_once 'Symfony/Component/HttpClient/autoload.php';

use Symfony\Component\Mercure\Hub;
use Symfony\Component\Mercure\Jwt\StaticTokenProvider;
use Symfony\Component\Mercure\Update;

[, $url, $token] = $argv;
$hub = new Hub($url, new StaticTokenProvider(trim(file_get_contents($token))));
$book = 'https://example.com/books/1';
foreach ([
    new Update($book, json_encode(['status' => 'Out of stock'], JSON_PRETTY_PRINT)),
    new Update([$book, 'https://example.com/books'], 'private', true),
    new Update('https://example.com/books', 'named é', false, 'urn:book:2', 'book', 1500),
] as $update) {
    echo $hub->publish($update), "\n";
}
