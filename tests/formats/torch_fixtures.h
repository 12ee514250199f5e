#pragma once

#include <cstddef>

namespace llama2zh {

// Made by scripts/make_torch_fixtures.py with torch 2.15.0+cu132.
inline constexpr size_t kTorchProtocol2Size = 3345;
inline constexpr char kTorchProtocol2[] =
    "eNrFlktsG0UYx8dvZ2mcpC1NGiCU8nIgdeLX2m7TJN2W5bGFJlsCS0CyNvY6XrGx/a3HCUGqFAklPE5QlSMVR25ckLgi"
    "hMSJAz1w6o1DxYkbHMvMjrPZncZJmxxYZbNxPL///z+P79POK6EwQvE4euAaRMeRblfq5poxWdWxnmp9aMlSAi35rs1g"
    "pdK0LKOCzWajLVyzq4ZtVK+YFSwAGlchkNQCRGwdghXcJGqpcgebVlso28Zyx7Sq5ZZu66sGNmwBQj2GYKPRbtrltYwA"
    "4WRSixG9NhmprxgQYYggW00dX2f/FCDqeE5BTAuRZ6XVgbgSxdC3oCAlqIS2QVBCSmAbHvu8TjMew9CvQuIz58PApzCo"
    "wpBGVgWtmcY6HK8T03qkzkTTcKLuiJ2kYiEluA2PKwGqeYqJDWMYUeG0w2PdtGB0h693yScWCBfagieVwBY8xagxDE+r"
    "cIZRplGFZ3jqrBv+WRb+OUY+j+EFFV7UgoRcrkGScd1lkZx1SYvuyow7k8jAS0Q0iOFlR3QLJmiUc0wwhWFShSln6Tpp"
    "EdIH7EpWgMyuZaq7M8JiA2+0jKrrnHWcs5AjzmEM+a6zSJ0LzLnYTd0xGySzACUM51W44EytVoTpuuNTZ0o5uMjmMNNV"
    "mqVKc0zpUlepRqdfLBu51WytIYCE4bIKV7QoPUEV3dJteMW3XlebjRU3sez45OFV4hPA8BrxGR9n+q9jeEMFRYuQAcZq"
    "C2/AVd8pEeFNAiEMb9FwSAlvwzUlTHdtngksYFBVuN65AW9rfQQokxLQaZXBovP9OxotQXj3BmjOeV8z7DYpMHhPCbTb"
    "7eXUvBKLv//LrQ/WyS7Re75nGQ+jsFvGqVrTXtVxuasmS+Q8U6Uf/777CY1N795Ko6iwq9Td5rJumSuNVaOBZSnLtYaH"
    "usQcDTC7Dn/RXQ7uG2AIzboBljew0aTNRpYuHMZ357JMjC2DZti6+OdpejCi+2ZIoBlfV5yckqXzRwjAVDdnya858kPu"
    "TXJ/O0cTDX9576sR8sXIAYkm/InSspRE/6N/5lH8ibPjNfrFP1/T5hc+wGvO75WVpemjbP/S/fsBRP0v3f1ZO4R/7qj+"
    "xZ+o+w/W2d8OPv8JJPnd87I0cyT3paVYV5umaP1xr0lt424KtGeKaX8KUZaKh07Re7YD6ITr4zasAd4oK9Dkv99eWTx4"
    "/cZQZreBOdHbhm2SDvaxTt9eymZVllKPOJMpsVjKZ0p5MVco5jNTYj5fKKYLBfJHMVfKpbMlMZspiWKGprz8zb93kiRH"
    "0kkZoGHdnN5mPvhAcv49jKe9DXzYR/4aQr3aPy/ibcKj/sYbRvt0fl7H20iHfDo3PTpuA+dxb9dJ+PBTEcT13odnv+PZ"
    "NM96O5CfTUY5NsOz3u7hZ2/xbJZnvbXvZ0/GODbHs96K9bM3eTa/w+5d095rJM6xIu/rrbcBH7vpYXucM28ZjPngOx54"
    "7wKdV6LRiZ1yDp1zyX7uWQix50d9O+0t6nS674+xz+xNJxJlTL8zno39D/977kc=";
inline constexpr size_t kTorchProtocol4Size = 3217;
inline constexpr char kTorchProtocol4[] =
    "eNrFVrtv20YcPooUpdiRlLgB7LpAhk40kMqS+JCUpLZLBOzAAnVcBCi8CLR0MolQj1CUDRcIYCBw0hYcGuRSZCo69g8o"
    "0LXo3qFDiw7ZMgSduhXdkjtSlI8nKWrsoQdRD/L3Pe54v0/cNnkBgGwWTIxLYAlYXtN2DuB6y/KtYv+ua+h5sJsYx8LT"
    "P1MRIFhs9lwXNn2n1x2gYPFTrwU92LrlNH30BK3tICngDlFw0e9h1mJj6DsuLltqeHBv6LitRt/yrA70oYer7TR1wYfd"
    "Qc9rHFTwBUkKMgPMYO1DFKRDKkxpuD3L/2x0+gkKuBIK+GZ/iEzRR7dNYKZM/iEyeZN7iL6yU9iLj3bQl+G3R/hbIBw4"
    "8BDZFyTJXrBzAVdGdiHG8mYKYznCcIoNBN9y3DHCXo3reZM/wdUnyVoHtqbUzvAVpPbacfViUNDD2ZU1en4V4i814pjQ"
    "44dlbfoSyuES2gtBLroL46XM3+n6R33YokVkIiJMERkvvDh0utgZro58t2vIvhH63gg4ZZZH+1aQa5M51RpQ6cjtbowX"
    "B03LtbzTuS9+0uvu05ZUwsmFnGtr1IzTsNP3j6gbqJFCEIkDU8CLLCQXeXgfBRcaeL9ZZHOjaF4A4bOZA+gN8B7GjgeD"
    "wV5x28xk//349u8v8D4nx/bMllkGK+OWKbZ7XsfyGyMyQ7/CdE40yoT9p7+fP+Awnhyz2VdB9ZR9dOMaluvsdzuw6xu6"
    "PFVgztAUYmDz8N5fpItTbzRwGWyODewd+bBHGtzQb5xFNx6u4/suJB5OPnzxrohVxDd6yIONRCqtlwz9+jkMRKzHm/ht"
    "C7/wcYyP77eIo+VvXj5ewRdW5ji6lnRUNnQJ/I/6lbfRx8qh1urX/zzFAkCYo7WV1JIN/eZ5bv/uq1ccIPofPf/l8zPo"
    "K+fVr/1M1H903/91/v7PAz2prhr6xrnUd3czI27iov/Hyx6RzY5dgKkubiZdaIZeO7OL2bMtgHfGOuMQK7BC8gJx/tt3"
    "+3fmr99VUDkNsND6AHoOTrAvLPLM0HBahl58y5mUtFpdrdRVTanW1EpJU9VqraTWyzW5rtUVfEmpKiVNDmP2Wfu9Ewn7"
    "kEKXXPjYEvukA/7ShHP2OYhF0wG+nEDKPJj1l8CS0CG8miB5TJNMJD/LQwfp5QTPkgAmA5yF06mTT8C/FQCTvf8dK6UZ"
    "bJnF0gmUxP7AYisslk6PJPaKyGBlFkv3fhKLWKzCYumOTWKXMgxWjbHTe5oez1isxurS/VZIUmUB27UsmG6DqwnsDgWe"
    "3qDbpihei9uZ/2CMzDGfVX7UVtk43sQw6dYvRr+jJ520GGFyYX1U+xrG0f1J";

}  // namespace llama2zh
